// pty(7): a pseudo-terminal of the host's devpts.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"

namespace caisson {

struct Pty {
  Fd master;
  Fd slave;
};

// A new pair; neither end becomes a controlling terminal. The slave comes from the master itself (TIOCGPTPEER, Linux
// 4.13), never by name: a name below /dev/pts is that of whatever devpts is mounted there. Errors: ENOENT without
// /dev/ptmx, ENOSPC at the limit of kernel.pty.max, those of ioctl_tty(2).
Result<Pty> open_pty(u16 rows, u16 columns);

// TIOCSWINSZ, ioctl_tty(2): the foreground process group gets SIGWINCH if the size has changed. ENOTTY: no terminal.
Status set_window_size(int terminal, u16 rows, u16 columns);

}  // namespace caisson
