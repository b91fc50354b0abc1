// Starting a program without fork: clone3(CLONE_VM | CLONE_VFORK) on a stack of its own, and exec at once. The caller
// sleeps 0.06-0.3 ms whatever the size of its heap; fork copies page tables (4.9 ms at 600 MB).
//
// Nothing but exec is done in the child: unshare, setns, chroot and changes of identity belong to the program that is
// started (in a process with many threads they hit one thread, or all, in ways that cannot be taken back).
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"

namespace caisson {

struct SpawnRequest {
  int exe = -1;                 // executable; execveat(exe, "", AT_EMPTY_PATH), so no path is looked up
  char* const* argv = nullptr;  // NULL-terminated, as exec takes them
  char* const* envp = nullptr;
  span<const int> fds;       // fds[i] becomes descriptor i; -1: /dev/null. Every other descriptor is closed
  int cgroup = -1;           // directory of a cgroup v2 to be born in; -1: the caller's
  bool new_session = false;  // setsid(2)
};

struct Spawned {
  int pid = 0;
  Fd pidfd;  // the caller's child: reap with waitid(P_PIDFD)
};

inline constexpr size_t kSpawnFdsMax = 256;

// Blocks until the child has exec'd. Signal handlers are reset to the default in the child (CLONE_CLEAR_SIGHAND), its
// mask is empty. Errors of the child are those of the call: "execveat" with ENOENT, EACCES, ENOEXEC, "dup3" with EBADF;
// the child is reaped then. "clone3" with EOPNOTSUPP or EBUSY: the cgroup takes no process; EAGAIN: pids limit.
Result<Spawned> spawn(const SpawnRequest& request);

struct Exit {
  bool exited = false;  // false: still running
  int code = -1;        // exit code, or -1 when a signal ended it
  int signal = 0;
};

// Reaps a child by pidfd without waiting. ECHILD: somebody else has reaped it.
Result<Exit> reap(int pidfd);

// pidfd_send_signal(2). ESRCH: it has been reaped, or is a zombie of which nothing is left.
Status send_signal(int pidfd, int signal);

// pidfd_open(2). ESRCH: no such process.
Result<Fd> open_pidfd(int pid);

}  // namespace caisson
