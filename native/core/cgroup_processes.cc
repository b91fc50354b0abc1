#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/directory.h"
#include "core/path.h"
#include "core/spawn.h"
#include "core/uapi.h"

namespace caisson {
namespace {

constexpr u32 kDepthMax = 64;  // levels below the container's; the kernel bounds them by cgroup.max.depth alone
constexpr int kFreezeTimeoutMs = 2'000;
constexpr size_t kBatch = 256;  // descriptors at a time
constexpr int kRoundsMax = 64;

bool gone(int err) { return err == ENOENT || err == ENODEV; }

// Appends the numbers of cgroup.procs. A list that is longer than a buffer is read in pieces.
Status read_processes(int cgroup, Vec<int>& out) {
  Fd file(openat(cgroup, "cgroup.procs", O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file) return gone(errno) ? ok() : Status(Error::last("openat", "cgroup.procs"));
  int pid = 0;
  for (;;) {
    char text[4096];
    const ssize_t n = read(file.get(), text, sizeof text);
    if (n < 0 && errno == EINTR) continue;
    // EOPNOTSUPP: a threaded cgroup, whose processes its parents list
    if (n < 0) return gone(errno) || errno == EOPNOTSUPP ? ok() : Status(Error::last("read", "cgroup.procs"));
    if (n == 0) return ok();
    for (ssize_t i = 0; i < n; ++i) {
      if (text[i] >= '0' && text[i] <= '9') {
        pid = pid * 10 + (text[i] - '0');  // at most 4194304, PID_MAX_LIMIT
        continue;
      }
      if (pid != 0) out.push(pid);
      pid = 0;
      if (out.size() > kCgroupProcessesMax) return Error(E2BIG, "read", "cgroup.procs");
    }
  }
}

Status walk(int cgroup, Vec<int>& out, u32 depth) {
  CAISSON_TRY(read_processes(cgroup, out));
  Fd list(openat(cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!list) return gone(errno) ? ok() : Status(Error::last("openat", "."));
  DirectoryReader reader(list.get());
  for (;;) {
    const DirectoryReader::Entry entry = CAISSON_TRY(reader.next());
    if (entry.name == nullptr) return ok();
    if (entry.type != DT_DIR) continue;
    if (depth == kDepthMax) return Error(ELOOP, "cgroup.procs", entry.name);
    auto below = cgroup_open(cgroup, entry.name);
    if (!below && gone(below.error().err)) continue;
    if (!below) return below.error();
    CAISSON_TRY(walk(below->get(), out, depth + 1));
  }
}

int by_number(const void* a, const void* b) { return *static_cast<const int*>(a) - *static_cast<const int*>(b); }

bool holds(const Vec<int>& sorted, int pid) {
  return !sorted.empty() && bsearch(&pid, sorted.data(), sorted.size(), sizeof(int), by_number) != nullptr;
}

Result<Vec<int>> sorted_processes(int cgroup) {
  Vec<int> pids = CAISSON_TRY(cgroup_processes(cgroup));
  if (!pids.empty()) qsort(pids.data(), pids.size(), sizeof(int), by_number);
  return pids;
}

// A frozen process can still be killed, and its number given to another before its pidfd is taken: what is in the
// cgroup afterwards was in it then.
Status signal_some(int cgroup, span<const int> pids, int signal) {
  struct Target {
    int pid;
    Fd pidfd;
  };
  Vec<Target> targets;
  for (const int pid : pids) {
    auto pidfd = open_pidfd(pid);
    if (!pidfd && pidfd.error().err != ESRCH) return pidfd.error();
    if (pidfd) targets.push({pid, pidfd.take()});
  }
  const Vec<int> inside = CAISSON_TRY(sorted_processes(cgroup));
  for (const Target& target : targets) {
    if (!holds(inside, target.pid)) continue;
    auto sent = send_signal(target.pidfd.get(), signal);
    if (!sent && sent.error().err != ESRCH) return sent.error();
  }
  return ok();
}

}  // namespace

Result<Vec<int>> cgroup_processes(int cgroup) {
  Vec<int> pids;
  CAISSON_TRY(walk(cgroup, pids, 0));
  return pids;
}

bool cgroup_is_frozen(int cgroup) {
  Fd above;
  for (int at = cgroup;;) {
    char text[8];
    const auto wanted = cgroup_read(at, "cgroup.freeze", text);
    if (!wanted) return false;  // the root of the hierarchy has none, nor what it is mounted on
    if (*wanted == "1") return true;
    Fd parent(openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!parent) return false;
    above = static_cast<Fd&&>(parent);
    at = above.get();
  }
}

Status cgroup_signal(int cgroup, int signal) {
  if (signal == SIGKILL) {
    auto killed = cgroup_kill(cgroup);
    if (killed || !gone(killed.error().err)) return killed;
    return ok();
  }
  const bool frozen = cgroup_is_frozen(cgroup);
  if (!frozen) {
    auto stopped = cgroup_freeze(cgroup, true, kFreezeTimeoutMs);
    if (!stopped && gone(stopped.error().err)) return ok();
    // A process in uninterruptible sleep does not freeze, and does not fork either.
    if (!stopped && stopped.error().err != ETIMEDOUT) return stopped;
  }
  Defer thaw([&] {
    if (!frozen) (void)cgroup_write(cgroup, "cgroup.freeze", "0");  // only a cgroup that is gone refuses
  });
  // A fork that was under way when the freeze came adds a process, itself frozen from its first moment on.
  Vec<int> done;
  for (int round = 0; round < kRoundsMax; ++round) {
    const Vec<int> now = CAISSON_TRY(sorted_processes(cgroup));
    Vec<int> fresh;
    for (const int pid : now)
      if (!holds(done, pid)) fresh.push(pid);
    if (fresh.empty()) return ok();
    for (size_t i = 0; i < fresh.size(); i += kBatch)
      CAISSON_TRY(
          signal_some(cgroup, {fresh.data() + i, fresh.size() - i < kBatch ? fresh.size() - i : kBatch}, signal));
    for (const int pid : fresh) done.push(pid);
    qsort(done.data(), done.size(), sizeof(int), by_number);
  }
  return Error(EAGAIN, "cgroup.procs", "the processes go on forking although they are frozen");
}

}  // namespace caisson
