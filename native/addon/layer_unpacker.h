#pragma once

#include <napi.h>

namespace caisson {

// exports.unpackLayer of src/native/types.ts
void init_layer_unpacker(Napi::Env env, Napi::Object exports);

}  // namespace caisson
