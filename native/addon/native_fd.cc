#include "addon/native_fd.h"

#include "addon/arguments.h"
#include "addon/instance.h"

namespace caisson {
namespace {

class NativeFd : public Napi::ObjectWrap<NativeFd> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeFd",
                       {InstanceAccessor<&NativeFd::number>("fd"), InstanceMethod<&NativeFd::close>("close"),
                        InstanceMethod<&NativeFd::release>("release")});
  }
  explicit NativeFd(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeFd>(info) {
    // The class is not exported: only native_fd() below comes here.
    fd_ = static_cast<Fd&&>(*info[0].As<Napi::External<Fd>>().Data());
  }

 private:
  Napi::Value number(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd_.get()); }
  void close(const Napi::CallbackInfo&) { fd_.reset(); }
  Napi::Value release(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd_.release()); }
  Fd fd_;
};

}  // namespace

Napi::Value native_fd(Napi::Env env, Fd fd) {
  return Instance::of(env).native_fd.New({Napi::External<Fd>::New(env, &fd)});
}

void init_native_fd(Napi::Env env, Napi::Object) {
  Instance::of(env).native_fd = Napi::Persistent(NativeFd::define(env));
}

}  // namespace caisson
