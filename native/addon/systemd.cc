// Scopes of systemd around containers: the system's manager, over D-Bus.
#include "core/systemd.h"

#include <vector>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "core/cgroup.h"
#include "core/cgroup_limits.h"
#include "core/plan.h"

namespace caisson {
namespace {

// A plan as the compiler gave it, where its records are aligned.
class PlanCopy {
 public:
  explicit PlanCopy(span<const u8> plan) : words_((plan.size() + sizeof(u64) - 1) / sizeof(u64)), size_(plan.size()) {
    memcpy(words_.data(), plan.data(), plan.size());
  }
  Result<PlanView> view() const { return PlanView::parse({reinterpret_cast<const u8*>(words_.data()), size_}); }

 private:
  std::vector<u64> words_;
  size_t size_;
};

Error misplaced(const std::string& unit, string_view path) {
  String object("unit ");
  object.append(unit.c_str()).append(": its process is in ").append(path);
  return Error(EIO, "systemd", object);
}

// systemdStartScope(slice, unit, description, pid, plan)
Napi::Value start_scope(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [slice = string_argument(info[0], "slice"), unit = string_argument(info[1], "unit"),
       description = string_argument(info[2], "description"), pid = info[3].ToNumber().Uint32Value(),
       plan = PlanCopy(buffer_argument(info[4], "plan"))]() -> Result<std::string> {
        const PlanView view = CAISSON_TRY(plan.view());
        const Vec<CgroupLimit> all = limits_of(view);
        const Vec<CgroupLimit> early = limits_of_phase(all, LimitPhase::kBeforeBirth);
        CAISSON_TRY(systemd_slice_path(slice));
        SystemdBus bus = CAISSON_TRY(SystemdBus::connect(false));
        CAISSON_TRY(bus.start_scope({String(slice.c_str()), String(unit.c_str())}, description, pid, early));
        const String path = CAISSON_TRY(cgroup_path_of(static_cast<int>(pid)));
        if (!path.view().ends_with(unit)) return misplaced(unit, path);
        return std::string(path.c_str());
      },
      [](Napi::Env env, std::string path) -> Napi::Value { return Napi::String::New(env, path); });
}

// systemdSetLimits(unit, plan)
Napi::Value set_limits(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [unit = string_argument(info[0], "unit"), plan = PlanCopy(buffer_argument(info[1], "plan"))]() -> Status {
        const PlanView view = CAISSON_TRY(plan.view());
        SystemdBus bus = CAISSON_TRY(SystemdBus::connect(false));
        return bus.set_properties(unit, limits_of(view));
      });
}

// systemdStopUnit(unit)
Napi::Value stop_unit(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [unit = string_argument(info[0], "unit")]() -> Status {
    SystemdBus bus = CAISSON_TRY(SystemdBus::connect(false));
    return bus.stop_unit(unit);
  });
}

// systemdSlicePath(slice)
Napi::Value slice_path(const Napi::CallbackInfo& info) {
  const String path = value_of(info.Env(), systemd_slice_path(string_argument(info[0], "slice")));
  return Napi::String::New(info.Env(), path.c_str(), path.size());
}

}  // namespace

void init_systemd(Napi::Env env, Napi::Object exports) {
  exports.Set("systemdStartScope", Napi::Function::New(env, start_scope, "systemdStartScope"));
  exports.Set("systemdSetLimits", Napi::Function::New(env, set_limits, "systemdSetLimits"));
  exports.Set("systemdStopUnit", Napi::Function::New(env, stop_unit, "systemdStopUnit"));
  exports.Set("systemdSlicePath", Napi::Function::New(env, slice_path, "systemdSlicePath"));
}

}  // namespace caisson
