// hostFeatures(): what the running kernel has, by asking it.
#include "addon/groups.h"
#include "addon/job.h"
#include "core/features.h"

namespace caisson {

void init_host(Napi::Env env, Napi::Object exports) {
  exports.Set("hostFeatures", Napi::Function::New(
                                  env,
                                  [](const Napi::CallbackInfo& info) -> Napi::Value {
                                    return run_job(info.Env(), detect_features,
                                                   [](Napi::Env e, HostFeatures found) -> Napi::Value {
                                                     Napi::Object features = Napi::Object::New(e);
                                                     for (const HostFeature& feature : found.features)
                                                       features.Set(feature.name, feature.present);
                                                     Napi::Object result = Napi::Object::New(e);
                                                     result.Set("kernel", found.kernel);
                                                     result.Set("features", features);
                                                     return result;
                                                   });
                                  },
                                  "hostFeatures"));
}

}  // namespace caisson
