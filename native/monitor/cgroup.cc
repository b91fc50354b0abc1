#include "monitor/cgroup.h"

#include "core/cgroup.h"
#include "core/device_attach.h"

namespace caisson::monitor {

Status Cgroup::create(int parent, string_view name) {
  String wanted(name);
  directory_ = CAISSON_TRY(cgroup_create(parent, wanted.c_str()));
  parent_ = parent;
  name_ = static_cast<String&&>(wanted);
  return ok();
}

Status Cgroup::apply(const PlanView& plan) const {
  bool missing = false;  // the file of the write before
  for (const CgroupWrite& write : plan.cgroup_writes()) {
    if ((write.flags & kCgroupIfPreviousMissing) != 0 && !missing) continue;
    auto written = cgroup_write(directory_.get(), plan.c_str(write.file), plan.text(write.value));
    missing = !written && written.error().err == ENOENT;
    if (!written && !(missing && (write.flags & kCgroupIgnoreMissing) != 0)) return written.error();
  }
  if (plan.device_program().empty()) return ok();
  Fd program = CAISSON_TRY(load_device_program(plan.device_program()));
  return attach_device_program(directory_.get(), program.get(), name_);
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
  CAISSON_TRY(cgroup_remove(parent_, name_.c_str()));
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
  out.json().end_object();
}

void Cgroup::restore(const JsonValue& value, int parent) {
  directory_ = inherited_fd(value["directory"]);
  name_ = String(value["name"].string_or(""));
  parent_ = parent;
}

}  // namespace caisson::monitor
