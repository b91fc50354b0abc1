// Descriptor and signal hygiene of a stage (CVE-2024-21626: a leaked directory descriptor is a way to the host).
#include <signal.h>
#include <sys/sysmacros.h>

#include "core/stage/stage.h"

namespace caisson {

void take_stdio(Stage& s) {
  s.at(Step::kStdio);
  if (s.stdio[0] == 0 && s.stdio[1] == 1 && s.stdio[2] == 2) return;
  int copies[3];
  for (int i = 0; i < 3; ++i) {
    int from = s.stdio[i];
    if (from < 0) from = s.check(open("/dev/null", O_RDWR | O_CLOEXEC));
    copies[i] = s.check(fcntl(from, F_DUPFD_CLOEXEC, 3));
  }
  for (int i = 0; i < 3; ++i) s.check(dup2(copies[i], i));
}

void close_unlisted(Stage& s) {
  s.at(Step::kPrepare);
  unsigned* keep = s.keep;
  unsigned count = 0;
  const unsigned first = 3 + s.preserve;
  auto list = [&](int fd) {
    if (fd < static_cast<int>(first)) return;
    auto number = static_cast<unsigned>(fd);
    unsigned at = count;
    while (at > 0 && keep[at - 1] > number) --at;
    if (at > 0 && keep[at - 1] == number) return;  // of several mounts
    for (unsigned i = count++; i > at; --i) keep[i] = keep[i - 1];
    keep[at] = number;
  };
  list(s.gate);
  list(s.seed);
  list(s.cgroup);
  list(s.listener);
  list(s.joined_root);
  list(s.root);
  list(s.upper);
  for (int fd : s.join) list(fd);
  for (u32 i = 0; i < s.plan->mounts().size(); ++i) list(s.idmaps[i]);
  for (u32 i = 0; i < s.plan->mounted_layers(); ++i) list(s.lowers[i]);
  unsigned from = first;
  for (unsigned i = 0; i < count; ++i) {
    if (keep[i] > from) s.check(sys::close_range(from, keep[i] - 1));
    from = keep[i] + 1;
  }
  s.check(sys::close_range(from, ~0u));
}

void default_signals(const Stage& s) {
  // CLONE_CLEAR_SIGHAND leaves ignored signals ignored; a container must not inherit that (SIGPIPE).
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (u64 rest = s.ignored; rest != 0; rest &= rest - 1)
    sigaction(__builtin_ctzll(rest) + 1, &action, nullptr);  // EINVAL: the C library's own
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void own_stdio(Stage& s, u32 uid, u32 gid) {
  s.at(Step::kStdio);
  for (int fd = 0; fd < 3; ++fd) {
    struct stat st = {};
    s.check(fstat(fd, &st));
    // Only what was made for this process: its pipes, sockets and pty, so that it can reopen /proc/self/fd/1. A regular
    // file or a shared device keeps its owner.
    bool tty = S_ISCHR(st.st_mode) && major(st.st_rdev) >= 136 && major(st.st_rdev) <= 143;  // UNIX98 pty slaves
    if (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode) && !tty) continue;
    if (st.st_uid == uid) continue;
    // EROFS, EPERM: a terminal of somebody else's file system stays as it is.
    if (fchown(fd, uid, tty ? static_cast<gid_t>(-1) : gid) != 0 && errno != EROFS && errno != EPERM && errno != EINVAL)
      s.fail(errno);
  }
}

void keep_listed(Stage& s) {
  s.at(Step::kCloseRange);
  int* kept[] = {&s.gate, &s.listener};
  if (s.listener >= 0 && s.listener < s.gate) std::swap(kept[0], kept[1]);
  // What was told for the hooks before is told anew by who starts: its number is another's soon.
  if (s.state >= 0) close(std::exchange(s.state, -1));
  // The smallest first: what it moves to is below every other that is kept.
  int next = 3 + static_cast<int>(s.preserve);
  for (int* each : kept) {
    if (*each < 0) continue;
    if (*each != next) *each = s.check(dup3(*each, next, O_CLOEXEC));
    ++next;
  }
  s.check(sys::close_range(static_cast<unsigned>(next), ~0u));
}

void hand_over(Stage& s) {
  for (u32 i = 0; i < s.preserve; ++i) {
    const int fd = 3 + static_cast<int>(i);
    if (fcntl(fd, F_SETFD, 0) != 0 && errno != EBADF) s.fail(errno);
  }
}

}  // namespace caisson
