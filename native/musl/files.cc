// open(2) and fcntl(2) as the kernel has them: musl's set FD_CLOEXEC once more behind its back, for kernels
// before 2.6.24.
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" {

int open(const char* path, int flags, ...) {
  unsigned mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list more;
    va_start(more, flags);
    mode = va_arg(more, unsigned);
    va_end(more);
  }
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode));
}

int fcntl(int fd, int command, ...) {
  va_list more;
  va_start(more, command);
  const unsigned long argument = va_arg(more, unsigned long);
  va_end(more);
  return static_cast<int>(syscall(SYS_fcntl, fd, command, argument));
}

}  // extern "C"
