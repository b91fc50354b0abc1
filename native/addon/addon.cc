#include <napi.h>
#include "addon/layer_unpacker.h"
#include "core/build_id.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  caisson::string_view id = caisson::build_id();
  exports.Set("buildId", Napi::String::New(env, id.data(), id.size()));
  caisson::init_layer_unpacker(env, exports);
  return exports;
}
NODE_API_MODULE(caisson, Init)
