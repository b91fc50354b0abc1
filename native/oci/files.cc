#include "oci/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "oci/log.h"

namespace caisson::oci {

Result<String> read_whole(int fd, size_t max, string_view what) {
  struct stat st {};
  if (fstat(fd, &st) != 0) return Error::last("fstat", what);
  if (S_ISDIR(st.st_mode)) return Error(EISDIR, "read", what);
  // Said by its size where it has one: nothing of 100 MB is read to find out.
  if (S_ISREG(st.st_mode) && static_cast<u64>(st.st_size) > max) return Error(EFBIG, "read", what);
  const size_t chunk = S_ISREG(st.st_mode) && st.st_size > 0 ? static_cast<size_t>(st.st_size) + 1 : 64 * 1024;
  Vec<char> buffer;
  buffer.reserve(chunk);
  String text;
  for (;;) {
    const ssize_t n = read(fd, buffer.data(), chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("read", what);
    if (n == 0) return text;
    text.append(string_view(buffer.data(), static_cast<size_t>(n)));
    if (text.size() > max) return Error(EFBIG, "read", what);
    if (static_cast<size_t>(n) < chunk && S_ISREG(st.st_mode)) return text;
  }
}

Status write_whole(int fd, string_view text, string_view what) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("write", what);
    text.remove_prefix(static_cast<size_t>(n));
  }
  return ok();
}

Status print(string_view text) { return write_whole(STDOUT_FILENO, text, "stdout"); }

Result<String> read_path(string_view path, size_t max, bool dash) {
  if (dash && path == "-") return read_whole(STDIN_FILENO, max, "stdin");
  Fd file(open(String(path).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return Error::last("open", path);
  return read_whole(file.get(), max, path);
}

Status replace_file(int dir, const String& fresh, const String& name, string_view text, int flags, u32 mode) {
  const Fd file(openat(dir, fresh.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, mode));
  if (!file) return Error::last("open", fresh);
  const Status written = write_whole(file.get(), text, name);
  if (written && renameat(dir, fresh.c_str(), dir, name.c_str()) == 0) return ok();
  const Error error = written ? Error::last("rename", name) : written.error();
  unlinkat(dir, fresh.c_str(), 0);
  return error;
}

Status write_pid_file(string_view path, int pid) {
  const size_t slash = path.rfind('/');
  const size_t name = slash == string_view::npos ? 0 : slash + 1;
  String fresh(part(path, 0, name));
  fresh.append('.').append(part(path, name));
  String text;
  text.append_i64(pid);
  return replace_file(AT_FDCWD, fresh, String(path), text, O_EXCL | O_NOFOLLOW, 0644);
}

void remove_file(string_view path) {
  if (unlink(String(path).c_str()) != 0 && errno != ENOENT)
    log(Level::kWarning, Fault::of(Error::last("unlink", path)).text);
}

}  // namespace caisson::oci
