// compilePod, compileContainer, compileExec: text in, plan out. Pure and below a millisecond: done at once.
#include "core/compile.h"

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"

namespace caisson {
namespace {

using Compiler = Result<Compiled> (*)(string_view json);

template <Compiler compiler>
Napi::Value compile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string json = string_argument(info[0], "input");
  Compiled compiled = value_of(env, compiler(json));
  Napi::Array warnings = Napi::Array::New(env);
  for (u32 i = 0; i < compiled.warnings.size(); ++i)
    warnings.Set(i, Napi::String::New(env, compiled.warnings[i].c_str(), compiled.warnings[i].size()));
  Napi::Object result = Napi::Object::New(env);
  result.Set("plan", Napi::Buffer<u8>::Copy(env, compiled.plan.data(), compiled.plan.size()));
  result.Set("warnings", warnings);
  return result;
}

}  // namespace

void init_compile(Napi::Env env, Napi::Object exports) {
  exports.Set("compilePod", Napi::Function::New(env, compile<compile_pod>, "compilePod"));
  exports.Set("compileContainer", Napi::Function::New(env, compile<compile_container>, "compileContainer"));
  exports.Set("compileExec", Napi::Function::New(env, compile<compile_exec>, "compileExec"));
}

}  // namespace caisson
