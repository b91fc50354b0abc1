// The limits of a container as writes to its cgroup: how a plan's or an update's list is carried out.
#pragma once

#include "core/base.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// One write to an interface file. `file` ends in NUL. It points into the plan or update it was taken from.
struct CgroupLimit {
  const char* file = "";
  string_view value;
  u32 flags = 0;  // CgroupWriteFlag
};

Vec<CgroupLimit> limits_of(const PlanView& plan);

// A limit of a few tasks would refuse the stages of a birth, which are two processes for a moment: such a one is
// written when the container's own is all there is (GateReport::kReady). It may then be below what is there (0 is a
// valid limit), which only refuses the next fork.
enum class LimitPhase : u8 { kBeforeBirth, kAfterBirth };
bool waits_for_birth(const CgroupLimit& limit);
// Those of the phase, in order.
Vec<CgroupLimit> limits_of_phase(span<const CgroupLimit> limits, LimitPhase phase);

// Writes the limits in order; kCgroupIgnoreMissing and kCgroupIfPreviousMissing are heeded, and a
// cpu.max.burst that the quota in force does not allow (EINVAL) is written again after the cpu.max that follows it.
// Errors name the interface file: ENOENT (the controller is not enabled for this cgroup, or the kernel lacks the file),
// EINVAL or ERANGE (the kernel refuses the value), EBUSY, EACCES.
Status apply_limits(int cgroup, span<const CgroupLimit> limits);

// The controllers that the files belong to ("memory" of memory.max), each once; cgroup.* and *.pressure need none.
Vec<string_view> controllers_of(span<const CgroupLimit> limits);

// Attaches a program of Section::kDeviceProgram in the place of the one that an earlier call for this cgroup attached,
// in one step (BPF_F_REPLACE); beside what others attached. An empty program detaches ours: all is allowed. EPERM:
// needs CAP_BPF and CAP_NET_ADMIN in the initial user namespace.
Status replace_device_program(int cgroup, span<const u64> program, string_view name);

}  // namespace caisson
