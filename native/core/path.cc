#include "core/path.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/sys.h"
#include "core/words.h"

namespace caisson {

Result<Fd> open_at2(int dir, const char* path, u64 flags, u64 mode, u64 resolve) {
  Fd fd(sys::openat2(dir, path, flags, mode, resolve));
  if (!fd) return Error::last("openat2", path);
  return fd;
}

bool is_file_name(string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

void append_clean_path(String& clean, string_view path) {
  while (!path.empty()) {
    const string_view component = take_until(path, '/');
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      const size_t slash = clean.view().rfind('/');
      clean = String(part(clean.view(), 0, slash == string_view::npos ? 0 : slash));
      continue;
    }
    clean.append('/').append(component);
  }
}

Result<string_view> read_small(int fd, span<char> out, string_view name) {
  for (size_t filled = 0;;) {
    if (filled == out.size()) return Error(EFBIG, "read", name);
    const ssize_t n = read(fd, out.data() + filled, out.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("read", name);
    if (n == 0) return string_view(out.data(), filled);
    filled += static_cast<size_t>(n);
  }
}

Result<Fd> make_directory_at(int dir, const char* name, u32 mode, bool reuse) {
  if (!is_file_name(name)) return Error(EINVAL, "mkdirat", name);
  if (mkdirat(dir, name, mode) != 0 && !(reuse && errno == EEXIST)) return Error::last("mkdirat", name);
  return open_at2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, uapi::kResolveBeneath | uapi::kResolveNoSymlinks);
}

Result<Fd> preallocate_at(int dir, const char* name, u64 size) {
  if (!is_file_name(name)) return Error(EINVAL, "openat", name);
  if (size == 0 || size > u64{1} << 40) return Error(EINVAL, "fallocate", name);
  Fd file(openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) return Error::last("openat", name);
  while (fallocate(file.get(), 0, 0, static_cast<off_t>(size)) != 0) {
    if (errno == EINTR) continue;
    Error error = Error::last("fallocate", name);
    unlinkat(dir, name, 0);
    return error;
  }
  return file;
}

Result<Fd> lock_file(const char* path) {
  for (;;) {
    Fd file(open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return Error::last("open", path);
    while (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EINTR) return Error::last("flock", path);
    }
    struct stat st {};
    if (fstat(file.get(), &st) != 0) return Error::last("fstat", path);
    if (st.st_nlink != 0) return file;
    // its holder has removed it between our open and our lock
  }
}

}  // namespace caisson
