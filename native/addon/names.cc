// capabilities(7) and getrlimit(2): the kernel's names, and what a process has.
#include <math.h>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "core/capabilities.h"
#include "core/rlimits.h"

namespace caisson {
namespace {

Napi::Value text(Napi::Env env, string_view name) { return Napi::String::New(env, name.data(), name.size()); }

// resourceLimits(pid)
Napi::Value limits(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int pid = info[0].IsUndefined() ? 0 : static_cast<int>(integer_argument(info[0], "pid", 0, INT32_MAX));
  Napi::Object result = Napi::Object::New(env);
  for (u32 resource = 0; resource < kRlimitCount; ++resource) {
    Rlimit limit = value_of(env, read_rlimit(pid, resource));
    auto number = [env](u64 value) {
      return Napi::Number::New(env, value == UINT64_MAX ? HUGE_VAL : static_cast<double>(value));
    };
    Napi::Object each = Napi::Object::New(env);
    each.Set("soft", number(limit.soft));
    each.Set("hard", number(limit.hard));
    result.Set(text(env, rlimit_name(resource)), each);
  }
  return result;
}

}  // namespace

void init_names(Napi::Env env, Napi::Object exports) {
  Napi::Array names = Napi::Array::New(env, kCapabilityCount);
  for (u32 n = 0; n < kCapabilityCount; ++n) names.Set(n, text(env, capability_name(n)));
  names.Freeze();
  exports.Set("capabilityNames", names);
  exports.Set("resourceLimits", Napi::Function::New(env, limits, "resourceLimits"));
}

}  // namespace caisson
