// compilePod, compileContainer, compileExec, compileSeccomp: text in, plan or filter out. Pure and below a millisecond:
// done at once.
#include "core/compile.h"

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "core/seccomp.h"

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

// compileSeccomp(profile)
Napi::Value seccomp(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  JsonDocument document = value_of(env, JsonDocument::parse(string_argument(info[0], "profile")));
  SeccompProgram program = value_of(env, compile_seccomp(document.root()));
  Napi::Object result = Napi::Object::New(env);
  const u8* bytes = reinterpret_cast<const u8*>(program.filter.data());
  result.Set("filter", Napi::Buffer<u8>::Copy(env, bytes, program.filter.size() * sizeof(SockFilter)));
  result.Set("flags", program.flags);
  result.Set("notify", program.notify);
  return result;
}

}  // namespace

void init_compile(Napi::Env env, Napi::Object exports) {
  exports.Set("compilePod", Napi::Function::New(env, compile<compile_pod>, "compilePod"));
  exports.Set("compileContainer", Napi::Function::New(env, compile<compile_container>, "compileContainer"));
  exports.Set("compileExec", Napi::Function::New(env, compile<compile_exec>, "compileExec"));
  exports.Set("compileSeccomp", Napi::Function::New(env, seccomp, "compileSeccomp"));
}

}  // namespace caisson
