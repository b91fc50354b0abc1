// The host and who manages us: hostFeatures(), what the running kernel has, by asking it; notifyManager(),
// sd_notify(3).
#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "core/features.h"
#include "core/notify.h"

namespace caisson {
namespace {

constexpr int kNotifyTimeoutMs = 5'000;

Napi::Value features(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), detect_features, [](Napi::Env e, HostFeatures found) -> Napi::Value {
    Napi::Object features = Napi::Object::New(e);
    for (const HostFeature& feature : found.features) features.Set(feature.name, feature.present);
    Napi::Object result = Napi::Object::New(e);
    result.Set("kernel", found.kernel);
    result.Set("features", features);
    return result;
  });
}

Napi::Value notify(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [address = string_argument(info[0], "address"), state = string_argument(info[1], "state")]() -> Status {
        return notify_manager(address, state, kNotifyTimeoutMs);
      });
}

}  // namespace

void init_host(Napi::Env env, Napi::Object exports) {
  exports.Set("hostFeatures", Napi::Function::New(env, features, "hostFeatures"));
  exports.Set("notifyManager", Napi::Function::New(env, notify, "notifyManager"));
}

}  // namespace caisson
