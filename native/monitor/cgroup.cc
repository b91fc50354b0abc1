#include "monitor/cgroup.h"

#include "core/cgroup.h"
#include "core/cgroup_limits.h"
#include "core/device_attach.h"

namespace caisson::monitor {

Status Cgroup::create(int parent, string_view name) {
  String wanted(name);
  directory_ = CAISSON_TRY(cgroup_create(parent, wanted.c_str()));
  parent_ = parent;
  name_ = static_cast<String&&>(wanted);
  return ok();
}

Status Cgroup::adopt(int parent, string_view name) {
  String wanted(name);
  directory_ = CAISSON_TRY(cgroup_open(parent, wanted.c_str()));
  parent_ = parent;
  name_ = static_cast<String&&>(wanted);
  adopted_ = true;
  return ok();
}

Status Cgroup::apply(const PlanView& plan) {
  const Vec<CgroupLimit> all = limits_of(plan);
  const Vec<CgroupLimit> early = limits_of_phase(all, LimitPhase::kBeforeBirth);
  unfinished_ = early.size() != all.size();
  CAISSON_TRY(apply_limits(directory_.get(), early));
  if (plan.device_program().empty()) return ok();
  Fd program = CAISSON_TRY(load_device_program(plan.device_program()));
  return attach_device_program(directory_.get(), program.get(), name_);
}

Status Cgroup::finish(const PlanView& plan) {
  const Vec<CgroupLimit> all = limits_of(plan);
  const Vec<CgroupLimit> late = limits_of_phase(all, LimitPhase::kAfterBirth);
  unfinished_ = false;
  return apply_limits(directory_.get(), late);
}

Status Cgroup::kill() const {
  if (!directory_) return Error(ENOENT, "cgroup.kill");
  return cgroup_kill(directory_.get());
}

Status Cgroup::remove() {
  if (!directory_) return ok();
  // cgroup_remove waits a while for a cgroup that is just becoming empty; the loop must not, where somebody lives
  // there.
  auto events = cgroup_events(directory_.get());
  if (events && events->populated) return Error(EBUSY, "rmdir", name_);
  // systemd takes it away when it hears that nobody is left, which it does not of a cgroup that goes before: the unit
  // would stay.
  if (!adopted_) CAISSON_TRY(cgroup_remove(parent_, name_.c_str()));
  forget();
  return ok();
}

void Cgroup::forget() {
  directory_.reset();
  name_ = String();
}

void Cgroup::save(HandoverWriter& out, string_view key) const {
  if (!directory_) return;
  out.json().key(key);
  out.json().begin_object();
  out.fd("directory", directory_);
  out.json().member("name", name_.view());
  out.json().member("unfinished", unfinished_);
  out.json().member("adopted", adopted_);
  out.json().end_object();
}

void Cgroup::restore(const JsonValue& value, int parent) {
  directory_ = inherited_fd(value["directory"]);
  name_ = String(value["name"].string_or(""));
  unfinished_ = value["unfinished"].bool_or(false);
  adopted_ = value["adopted"].bool_or(false);
  parent_ = parent;
}

}  // namespace caisson::monitor
