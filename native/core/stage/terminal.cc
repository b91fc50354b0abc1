// The container's pseudo-terminal: pty(7) of its own devpts, and /dev/console.
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "core/stage/stage.h"

namespace caisson {

void open_terminal(Stage& s) {
  const ProcessEntry& process = s.plan->process();
  if ((process.flags & kProcessTerminal) == 0) return;
  s.at(Step::kTerminal);
  // CVE-2025-52565: /dev/pts/N is never opened by name. The multiplexer is verified, and the peer taken from it.
  constexpr u64 kStrict = uapi::kResolveInRoot | uapi::kResolveNoSymlinks;
  int master = s.check(sys::openat2(s.root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0, kStrict));
  struct stat st = {};
  struct statfs fs = {};
  s.check(fstat(master, &st));
  s.check(fstatfs(master, &fs));
  if (static_cast<u64>(fs.f_type) != uapi::kDevptsSuperMagic || st.st_ino != 2 || st.st_rdev != makedev(5, 2))
    s.fail(ENODEV);
  int unlock = 0;
  s.check(ioctl(master, static_cast<int>(uapi::kTiocsptlck), &unlock));
  s.terminal = s.check(ioctl(master, static_cast<int>(uapi::kTiocgptpeer), O_RDWR | O_NOCTTY | O_CLOEXEC));
  if ((process.flags & kProcessConsoleSize) != 0) {
    u16 size[4] = {static_cast<u16>(process.rows), static_cast<u16>(process.columns), 0, 0};  // struct winsize
    s.check(ioctl(master, static_cast<int>(uapi::kTiocswinsz), size));
  }
  GateReport message;
  message.kind = GateReport::kTerminal;
  s.report(message, master);
  close(master);
  for (int fd = 0; fd < 3; ++fd) s.check(dup2(s.terminal, fd));

  if (s.plan->kind() != PlanKind::kContainer) return;
  s.at(Step::kConsole);
  int console = s.check(reach(s.root, "/dev/console", TargetKind::kFile, false));
  int peer = s.check(sys::open_tree(s.terminal, "", uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath}));
  s.check(sys::move_mount(peer, console));
  close(peer);
  close(console);
}

}  // namespace caisson
