// cgroup v2 by directory descriptors: discovery, creation, control, events, removal. cgroups(7),
// Documentation/admin-guide/cgroup-v2.rst. No call here writes cgroup.procs: a process is born in its cgroup
// (CLONE_INTO_CGROUP), since migration takes the kernel's cgroup_threadgroup_rwsem for up to 9 ms.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

inline constexpr size_t kCgroupFileMax = 64 * 1024;  // bytes read or written of one interface file
inline constexpr int kCgroupPathMax = 4096;

// --- cgroup_mount.cc

struct CgroupMount {
  Fd dir;               // the root cgroup as this process sees it
  String path;          // "/sys/fs/cgroup", or "/sys/fs/cgroup/unified" on a hybrid host
  bool hybrid = false;  // v1 hierarchies are mounted too: their controllers are missing here
};

// Finds cgroup2 through /proc/self/mountinfo. ENODEV: none is mounted.
Result<CgroupMount> find_cgroup_mount();

// The same from where it is on nearly every host, without reading mountinfo, which costs a command more than all the
// rest it does with its cgroup. `hybrid` tells of the place alone.
Result<CgroupMount> open_cgroup_root();

// --- cgroup_tree.cc

// Opens a cgroup below `parent` ("" is the parent itself); links and ".." never lead out. For CLONE_INTO_CGROUP, bpf
// and every function below.
Result<Fd> cgroup_open(int parent, const char* path);

// Makes one new cgroup below `parent` and opens it. EEXIST: the name is taken. EAGAIN: cgroup.max.depth or
// cgroup.max.descendants of an ancestor is reached.
Result<Fd> cgroup_create(int parent, const char* name);

// mkdir -p of `path` below `root`, enabling `controllers` for the children of every cgroup along the way and of `path`
// itself (cgroup.subtree_control), so that a cgroup made in `path` has the files of each. ENOTSUP: the root does not
// offer a controller, object "<controller> (not in cgroup.controllers of …)". EBUSY: a process sits in a cgroup on the
// way. Cgroups made by a call that fails are removed again.
Result<Fd> cgroup_ensure(int root, const char* path, span<const string_view> controllers);

// Removes the cgroup `name` (one component, or a path below `parent`) with every cgroup below it, of any depth. Absent
// is success. EBUSY: a process is left in it. Waits up to 50 ms for a cgroup whose last process is just being reaped.
Status cgroup_remove(int parent, const char* name);

// Kill, wait, remove. ETIMEDOUT, naming the cgroup: a process did not die in time (uninterruptible sleep).
Status cgroup_destroy(int parent, const char* name, int timeout_ms);

// --- cgroup_control.cc

// Reads an interface file into `out`; trailing newline removed. EFBIG: longer than `out`. ENOENT: the controller is not
// enabled for this cgroup, or the kernel lacks the file.
Result<string_view> cgroup_read(int cgroup, const char* file, span<char> out);

// One write(2) of the value. ENOENT as above; ERANGE or EINVAL: the kernel refuses the value.
Status cgroup_write(int cgroup, const char* file, string_view value);

// Whether the words of a file such as cgroup.controllers hold `word`.
bool cgroup_has_word(string_view words, string_view word);

// SIGKILL to every process of the subtree, forks included (cgroup.kill, Linux 5.14).
Status cgroup_kill(int cgroup);

// Freezes or thaws the subtree and waits until cgroup.events says so. ETIMEDOUT: the kernel goes on trying.
Status cgroup_freeze(int cgroup, bool frozen, int timeout_ms);

// --- cgroup_events.cc

struct CgroupEvents {
  bool populated = false;  // a live process in the subtree
  bool frozen = false;
};
Result<CgroupEvents> cgroup_events(int cgroup);

// A descriptor of a file with events (cgroup.events, memory.events) to poll for POLLPRI (EPOLLPRI) beside others.
Result<Fd> cgroup_watch(int cgroup, const char* file = "cgroup.events");

// Waits until no process is left in the subtree. ETIMEDOUT. A negative time-out waits for ever.
Status cgroup_wait_empty(int cgroup, int timeout_ms);

// Counters of memory.events, of the subtree: exec leaves are included. Fields the kernel does not know stay 0.
struct MemoryEvents {
  u64 low = 0;
  u64 high = 0;
  u64 max = 0;
  u64 oom = 0;             // the limit was hit and no memory could be reclaimed
  u64 oom_kill = 0;        // processes killed by the OOM killer
  u64 oom_group_kill = 0;  // Linux 5.17
};
// ENOENT: the memory controller is not enabled here.
Result<MemoryEvents> cgroup_memory_events(int cgroup);
MemoryEvents parse_memory_events(string_view text);

// --- cgroup_processes.cc

inline constexpr size_t kCgroupProcessesMax = 1 << 20;  // more are E2BIG

// The processes of a cgroup and of every cgroup below it, as this process's PID namespace numbers them, in no order;
// those outside of it (0) are left out. Threaded cgroups below are part of their processes, which are listed above
// them. A cgroup that goes meanwhile counts as empty.
Result<Vec<int>> cgroup_processes(int cgroup);

// Sends a signal to every process of the subtree: SIGKILL by cgroup.kill; another one while the subtree is frozen, so
// that none is missed by a fork and no number is taken by another process meanwhile; thawed again at the end unless it
// was frozen before. Success where nobody is left.
Status cgroup_signal(int cgroup, int signal);

// Is the subtree, or one that it is in, to be frozen? By cgroup.freeze, for "frozen" of cgroup.events may stay 1 for
// good where the processes of a cgroup and of one below it ended about the time of the thaw (seen on 6.18). False where
// the cgroup is gone.
bool cgroup_is_frozen(int cgroup);

// --- cgroup_owner.cc

// The path of a process's cgroup below the cgroup2 mount ("/a/b"); pid 0 is the caller. ENODEV: no cgroup v2.
Result<String> cgroup_path_of(int pid);

// Gives a cgroup away: chown of its directory and of those files in it that /sys/kernel/cgroup/delegate lists
// (cgroups(7) "Delegation"). The group stays.
Status cgroup_set_owner(int cgroup, u32 uid);

}  // namespace caisson
