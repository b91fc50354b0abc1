// How the process runs: CPU affinity, sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2).
//
// CAP_SYS_NICE counts in the initial user namespace only. So a process that ends in another one gets its policy and its
// I/O priority before, and a second stage inherits them; all others get them when all of their container is made, so
// that nothing of the creation (nor a hook) runs under them.
#include "core/process_words.h"
#include "core/stage/stage.h"

namespace caisson {

namespace {

bool leaves_user_namespace(const Stage& s) { return s.has_user_namespace() || (s.create & uapi::kCloneNewuser) != 0; }

// Is what is set now inherited by another process, which ends as the container's?
bool hands_on(const Stage& s) { return s.has_user_namespace() || s.rootless; }

void set_affinity(Stage& s) {
  s.at(Step::kAffinity, 1);
  span<const u64> final = s.plan->cpus_final();
  if (!final.empty()) {
    s.check(sys::sched_setaffinity(final.data(), final.size_bytes()));
    return;
  }
  if (!s.plan->cpus_initial().empty()) return;  // what the kernel made of it on entering the cgroup
  // Whoever starts containers may be bound to some CPUs (CPUAffinity= of systemd); they have those of their cgroup. A
  // sandbox around all of this may forbid it.
  u64 all[128];
  memset(all, 0xff, sizeof all);
  if (sys::sched_setaffinity(all, sizeof all) < 0 && errno != EPERM && errno != ENOSYS) s.fail(errno);
}

void set_scheduler(Stage& s, u64 flags) {
  if ((s.plan->process().flags & kProcessScheduler) == 0) return;
  const SchedulerEntry& entry = s.plan->process().scheduler;
  s.at(Step::kScheduler);
  s.check(sys::sched_setattr({sizeof(uapi::SchedAttr), entry.policy, flags, entry.nice, entry.priority, entry.runtime,
                              entry.deadline, entry.period}));
}

void set_io_priority(Stage& s) {
  if ((s.plan->process().flags & kProcessIoPriority) == 0) return;
  s.at(Step::kIoPriority);
  s.check(sys::ioprio_set(s.plan->process().io_priority));
}

}  // namespace

void prepare_scheduling(Stage& s) {
  set_affinity(s);
  if (!leaves_user_namespace(s)) return;
  u64 flags = s.plan->process().scheduler.flags;
  if (hands_on(s)) flags &= ~u64{words::kSchedResetOnFork};
  set_scheduler(s, flags);
  set_io_priority(s);
}

void set_scheduling(Stage& s) {
  const ProcessEntry& process = s.plan->process();
  if (!leaves_user_namespace(s)) {
    set_scheduler(s, process.scheduler.flags);
    set_io_priority(s);
  } else if (hands_on(s) && (process.scheduler.flags & words::kSchedResetOnFork) != 0) {
    set_scheduler(s, process.scheduler.flags);  // adds the flag and nothing else, which takes no privilege
  }
  if ((process.flags & kProcessMemoryPolicy) != 0) {
    s.at(Step::kMemoryPolicy);
    bool none = true;
    for (u64 word : process.memory_nodes) none = none && word == 0;
    // The kernel takes one off the number of bits.
    s.check(sys::set_mempolicy(process.memory_mode, none ? nullptr : process.memory_nodes, none ? 0 : kNodesMax + 1));
  }
  if ((process.flags & kProcessPersonality) != 0) {
    s.at(Step::kPersonality);
    s.check(sys::personality(process.personality));
  }
}

}  // namespace caisson
