#include <fcntl.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/path.h"

namespace caisson {

// A seq_file(9) gives all it has where that is well below a page: then there is no need to ask for the end.
static Result<string_view> read_control(int fd, span<char> out, const char* file) {
  constexpr ssize_t kSurelyAll = 1024;
  const ssize_t n = read(fd, out.data(), out.size());
  if (n < 0 && errno != EINTR) return Error::last("read", file);
  if (n >= 0 && n < kSurelyAll && static_cast<size_t>(n) < out.size())
    return string_view(out.data(), static_cast<size_t>(n));
  const size_t filled = n < 0 ? 0 : static_cast<size_t>(n);
  return string_view(out.data(), filled + CAISSON_TRY(read_small(fd, out.subspan(filled), file)).size());
}

Result<string_view> cgroup_read(int cgroup, const char* file, span<char> out) {
  if (!is_file_name(file)) return Error(EINVAL, "openat", file);
  Fd fd(openat(cgroup, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Error::last("openat", file);
  string_view text = CAISSON_TRY(read_control(fd.get(), out, file));
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

Status cgroup_write(int cgroup, const char* file, string_view value) {
  if (!is_file_name(file)) return Error(EINVAL, "openat", file);
  if (value.size() > kCgroupFileMax) return Error(EFBIG, "write", file);
  Fd fd(openat(cgroup, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Error::last("openat", file);
  for (;;) {
    ssize_t n = write(fd.get(), value.data(), value.size());
    if (n == static_cast<ssize_t>(value.size())) return ok();
    if (n >= 0) return Error(EIO, "write", file);
    if (errno != EINTR) return Error::last("write", file);
  }
}

bool cgroup_has_word(string_view words, string_view word) {
  for (;;) {
    size_t blank = words.find_first_of(" \n");
    if (part(words, 0, blank) == word) return true;
    if (blank == words.npos) return false;
    words.remove_prefix(blank + 1);
  }
}

Status cgroup_kill(int cgroup) { return cgroup_write(cgroup, "cgroup.kill", "1"); }

}  // namespace caisson
