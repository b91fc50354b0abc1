#include <fcntl.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/path.h"

namespace caisson {

Result<string_view> cgroup_read(int cgroup, const char* file, span<char> out) {
  if (!is_file_name(file)) return Error(EINVAL, "openat", file);
  Fd fd(openat(cgroup, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Error::last("openat", file);
  string_view text = CAISSON_TRY(read_small(fd.get(), out, file));
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
