#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/witness/witness.h"

namespace caisson::witness {
namespace {

// sched_setattr(2)
struct SchedulerAttributes {
  u32 size;
  u32 policy;
  u64 flags;
  i32 nice;
  u32 priority;
  u64 runtime;
  u64 deadline;
  u64 period;
  u32 util_min;
  u32 util_max;
};

void write_affinity(JsonWriter& json) {
  cpu_set_t set;
  String cpus;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) cpus.append(cpus.empty() ? "" : ",").append_i64(i);
  json.member("affinity", cpus);
}

void write_memory_policy(JsonWriter& json) {
  int mode = -1;
  unsigned long nodes[16] = {};
  String text;
  if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, nullptr, 0) == 0) {
    text.append_i64(mode).append(" nodes ");
    text.append_u64(nodes[0]);
  }
  json.member("memoryPolicy", text);
}

}  // namespace

void write_scheduling(JsonWriter& json) {
  json.key("scheduling").begin_object();
  SchedulerAttributes attributes = {};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0) {
    json.member("policy", attributes.policy).member("nice", attributes.nice);
    json.member("priority", attributes.priority).member("flags", attributes.flags);
    // a fair task's runtime is its slice, which the kernel chooses
    if (attributes.policy == SCHED_DEADLINE)
      json.member("runtime", attributes.runtime)
          .member("deadline", attributes.deadline)
          .member("period", attributes.period);
  }
  constexpr int kProcess = 1;  // IOPRIO_WHO_PROCESS
  long priority = syscall(SYS_ioprio_get, kProcess, 0);
  String text;
  text.append("class ").append_i64(priority >> 13).append(" level ").append_i64(priority & 0x7);
  json.member("ioPriority", text);
  write_affinity(json);
  write_memory_policy(json);
  json.end_object();
}

}  // namespace caisson::witness
