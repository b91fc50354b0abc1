// The groups of functions that addon.cc puts on the module's exports; src/native/types.ts describes every function.
#pragma once

#include <napi.h>

namespace caisson {

void init_blob_writer(Napi::Env env, Napi::Object exports);
void init_cgroup(Napi::Env env, Napi::Object exports);
void init_cgroup_usage(Napi::Env env, Napi::Object exports);
void init_channel(Napi::Env env, Napi::Object exports);
void init_child(Napi::Env env, Napi::Object exports);
void init_compile(Napi::Env env, Napi::Object exports);
void init_connect(Napi::Env env, Napi::Object exports);
void init_device_mapper(Napi::Env env, Napi::Object exports);
void init_files(Napi::Env env, Napi::Object exports);
void init_host(Napi::Env env, Napi::Object exports);
void init_layer_maker(Napi::Env env, Napi::Object exports);
void init_memfd(Napi::Env env, Napi::Object exports);
void init_mount(Napi::Env env, Napi::Object exports);
void init_names(Napi::Env env, Napi::Object exports);
void init_network(Napi::Env env, Napi::Object exports);
void init_systemd(Napi::Env env, Napi::Object exports);
void init_terminal(Napi::Env env, Napi::Object exports);
void init_tree(Napi::Env env, Napi::Object exports);

}  // namespace caisson
