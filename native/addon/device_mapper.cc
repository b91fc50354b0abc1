// Device mapper on the thread pool.
#include "core/device_mapper.h"

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"

namespace caisson {
namespace {

Napi::Value device_object(Napi::Env env, MapperDevice device) {
  if (!device.present) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object.Set("major", device.major);
  object.Set("minor", device.minor);
  object.Set("suspended", device.suspended);
  object.Set("status", device.status.c_str());
  return object;
}

// mapperCreate(name, sectors, type, params, readonly): Promise<MapperDevice>
Napi::Value create(const Napi::CallbackInfo& info) {
  const u64 sectors = static_cast<u64>(integer_argument(info[1], "sectors", 1, kSafeIntegerMax));
  const bool readonly = info[4].ToBoolean();
  return run_job(
      info.Env(),
      [=, name = string_argument(info[0], "name"), type = string_argument(info[2], "type"),
       params = string_argument(info[3], "params")] {
        return mapper_create(name, {sectors, type, params, readonly});
      },
      device_object);
}

Napi::Value status(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(), [name = string_argument(info[0], "name")] { return mapper_status(name); }, device_object);
}

Napi::Value remove(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [name = string_argument(info[0], "name")] { return mapper_remove(name); });
}

Napi::Value message(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [name = string_argument(info[0], "name"), text = string_argument(info[1], "message")] {
    return mapper_message(name, text);
  });
}

Napi::Value suspend(const Napi::CallbackInfo& info) {
  const bool stop = info[1].ToBoolean();
  return run_job(info.Env(), [=, name = string_argument(info[0], "name")] { return mapper_suspend(name, stop); });
}

Napi::Value size(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(), [path = string_argument(info[0], "path")] { return block_size(path.c_str()); },
      [](Napi::Env env, BlockSize found) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("bytes", static_cast<double>(found.bytes));
        object.Set("major", found.major);
        object.Set("minor", found.minor);
        return object;
      });
}

}  // namespace

void init_device_mapper(Napi::Env env, Napi::Object exports) {
  exports.Set("mapperCreate", Napi::Function::New(env, create, "mapperCreate"));
  exports.Set("mapperStatus", Napi::Function::New(env, status, "mapperStatus"));
  exports.Set("mapperRemove", Napi::Function::New(env, remove, "mapperRemove"));
  exports.Set("mapperMessage", Napi::Function::New(env, message, "mapperMessage"));
  exports.Set("mapperSuspend", Napi::Function::New(env, suspend, "mapperSuspend"));
  exports.Set("blockSize", Napi::Function::New(env, size, "blockSize"));
}

}  // namespace caisson
