// `update`: new limits for a cgroup that is in use. The same rules as at creation (compile/cgroup.cc), and those that
// depend on what is in force. runtime-spec config-linux.md "Control groups"; runc update.go.
#pragma once

#include "core/base.h"
#include "core/cgroup_limits.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// What an update's rules look at. Files that are not there leave the values as they stand here.
struct CgroupState {
  String controllers;  // cgroup.controllers: words
  i64 cpu_quota = -1;  // microseconds; -1: max
  u64 cpu_period = 100'000;
  i64 memory_max = -1;  // bytes; -1: max
  u64 memory_current = 0;
  u64 swap_current = 0;
};
// Errors: those of cgroup_read but ENOENT.
Result<CgroupState> read_cgroup_state(int cgroup);

struct OwnedLimit {
  String file;
  String value;
  u32 flags = 0;  // CgroupWriteFlag
};

class CgroupUpdate {
 public:
  CgroupUpdate() = default;
  CgroupUpdate(CgroupUpdate&&) = default;
  CgroupUpdate& operator=(CgroupUpdate&&) = default;

  // In the order of writing; valid as long as this.
  Vec<CgroupLimit> limits() const;
  // linux.resources.devices was there: `program` replaces the one attached (replace_device_program).
  bool devices() const { return devices_; }
  span<const u64> program() const { return {program_.data(), program_.size()}; }
  const Vec<String>& warnings() const { return warnings_; }

 private:
  friend Result<CgroupUpdate> compile_update(string_view resources, const CgroupState& state, bool warn_missing);
  Vec<OwnedLimit> limits_;
  Vec<u64> program_;
  Vec<String> warnings_;
  bool devices_ = false;
};

// A linux.resources document as writes. What is absent stays as it is: a quota keeps the period in force and the other
// way round; swap is reckoned from the memory limit in force. Pure. Errors as of compile_container(), and
//   EBUSY "memory.limit: …": checkBeforeUpdate, and the new limit is not above what is used.
// `warn_missing`: a limit whose controller is missing is left out, with a warning.
Result<CgroupUpdate> compile_update(string_view resources, const CgroupState& state, bool warn_missing = false);

// --- cgroup_change.cc

// Writes limits, and gives every process of the cgroup and below it an oom_score_adj (proc(5)) where one is given; all
// of it or nothing: where something is refused, what was done before is put back to what was in force. `name` is the
// last part of the cgroup's path: a process is looked at through its directory in /proc, and left alone unless that
// says it is in there. What cannot be read (memory.reclaim) is not put back. Errors are those of apply_limits(), and
// EACCES "oom_score_adj": lower than this process may. What could not be put back is named behind the file.
// Where the cgroup is a scope of the system's manager ("….scope"), that is told of the limits too, last, or its next
// reload would take them back: errors of SystemdBus.
Status change_cgroup(int cgroup, string_view name, span<const CgroupLimit> limits, const int* oom_score_adj);

}  // namespace caisson
