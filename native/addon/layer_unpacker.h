#pragma once

#include <napi.h>

namespace caisson {

// exports.createLayerUnpacker(dirfd, { maxEntries, maxBytes }): LayerUnpacker of src/native/types.ts
void init_layer_unpacker(Napi::Env env, Napi::Object exports);

}  // namespace caisson
