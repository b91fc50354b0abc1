#include "core/pty.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "core/uapi.h"

namespace caisson {

Result<Pty> open_pty(u16 rows, u16 columns) {
  Pty pty;
  pty.master = Fd(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.master) return Error::last("open", "/dev/ptmx");
  int unlock = 0;
  if (ioctl(pty.master.get(), static_cast<int>(uapi::kTiocsptlck), &unlock) != 0)
    return Error::last("ioctl", "TIOCSPTLCK");
  pty.slave = Fd(ioctl(pty.master.get(), static_cast<int>(uapi::kTiocgptpeer), O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.slave) return Error::last("ioctl", "TIOCGPTPEER");
  CAISSON_TRY(set_window_size(pty.master.get(), rows, columns));
  return pty;
}

Status set_window_size(int terminal, u16 rows, u16 columns) {
  u16 size[4] = {rows, columns, 0, 0};  // struct winsize
  if (ioctl(terminal, static_cast<int>(uapi::kTiocswinsz), size) != 0) return Error::last("ioctl", "TIOCSWINSZ");
  return ok();
}

}  // namespace caisson
