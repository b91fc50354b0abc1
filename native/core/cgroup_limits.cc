#include "core/cgroup_limits.h"

#include "core/cgroup.h"
#include "core/device_attach.h"

namespace caisson {

bool waits_for_birth(const CgroupLimit& limit) {
  // Two stages, systemd's placeholder, and what a hook starts: one digit, or 1 and a digit, is too little.
  const string_view value = limit.value;
  return string_view(limit.file) == "pids.max" &&
         (value.size() == 1 || (value.size() == 2 && (value[0] == '0' || value[0] == '1')));
}

Vec<CgroupLimit> limits_of_phase(span<const CgroupLimit> limits, LimitPhase phase) {
  Vec<CgroupLimit> chosen;
  bool waits = false;  // what comes after one that waits, and overrides it, waits too
  for (const CgroupLimit& limit : limits) {
    waits = waits || waits_for_birth(limit);
    const bool late = waits && string_view(limit.file) == "pids.max";
    if (late == (phase == LimitPhase::kAfterBirth)) chosen.push(limit);
  }
  return chosen;
}

Vec<CgroupLimit> limits_of(const PlanView& plan) {
  Vec<CgroupLimit> limits;
  limits.reserve(plan.cgroup_writes().size());
  for (const CgroupWrite& write : plan.cgroup_writes())
    limits.push({plan.c_str(write.file), plan.text(write.value), write.flags});
  return limits;
}

Status apply_limits(int cgroup, span<const CgroupLimit> limits) {
  bool missing = false;                // the file of the write before
  const CgroupLimit* burst = nullptr;  // waits for a cpu.max that allows it
  for (const CgroupLimit& limit : limits) {
    if ((limit.flags & kCgroupIfPreviousMissing) != 0 && !missing) continue;
    auto written = cgroup_write(cgroup, limit.file, limit.value);
    missing = !written && written.error().err == ENOENT;
    if (!written && written.error().err == EINVAL && string_view(limit.file) == "cpu.max.burst") {
      burst = &limit;
      continue;
    }
    if (!written && !(missing && (limit.flags & kCgroupIgnoreMissing) != 0)) return written.error();
    if (burst != nullptr && string_view(limit.file) == "cpu.max") {
      CAISSON_TRY(cgroup_write(cgroup, burst->file, burst->value));
      burst = nullptr;
    }
  }
  if (burst != nullptr) return cgroup_write(cgroup, burst->file, burst->value);
  return ok();
}

Vec<string_view> controllers_of(span<const CgroupLimit> limits) {
  Vec<string_view> found;
  for (const CgroupLimit& limit : limits) {
    const string_view file(limit.file);
    const string_view controller = part(file, 0, file.find('.'));
    // These are files of every cgroup; so is what may be missing.
    if (controller == "cgroup" || file.ends_with(".pressure") || (limit.flags & kCgroupIfPreviousMissing) != 0)
      continue;
    bool known = false;
    for (const string_view each : found) known = known || each == controller;
    if (!known) found.push(controller);
  }
  return found;
}

Status replace_device_program(int cgroup, span<const u64> program, string_view name) {
  Fd old = CAISSON_TRY(attached_device_program(cgroup, name));
  if (program.empty()) return old ? detach_device_program(cgroup, old.get(), name) : ok();
  Fd fresh = CAISSON_TRY(load_device_program(program));
  return attach_device_program(cgroup, fresh.get(), name, old ? old.get() : -1);
}

}  // namespace caisson
