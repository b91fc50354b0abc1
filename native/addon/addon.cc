// The module: one group of functions after another.
#include <napi.h>

#include "addon/groups.h"
#include "addon/instance.h"
#include "addon/layer_unpacker.h"
#include "addon/native_fd.h"
#include "core/build_id.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  new caisson::Instance(env);  // freed with the environment
  caisson::string_view id = caisson::build_id();
  exports.Set("buildId", Napi::String::New(env, id.data(), id.size()));
  caisson::init_native_fd(env, exports);
  caisson::init_blob_writer(env, exports);
  caisson::init_cgroup(env, exports);
  caisson::init_cgroup_usage(env, exports);
  caisson::init_channel(env, exports);
  caisson::init_child(env, exports);
  caisson::init_compile(env, exports);
  caisson::init_connect(env, exports);
  caisson::init_device_mapper(env, exports);
  caisson::init_files(env, exports);
  caisson::init_host(env, exports);
  caisson::init_layer_unpacker(env, exports);
  caisson::init_layer_maker(env, exports);
  caisson::init_memfd(env, exports);
  caisson::init_mount(env, exports);
  caisson::init_names(env, exports);
  caisson::init_network(env, exports);
  caisson::init_systemd(env, exports);
  caisson::init_terminal(env, exports);
  caisson::init_tree(env, exports);
  return exports;
}
NODE_API_MODULE(caisson, Init)
