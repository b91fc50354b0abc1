#pragma once

#include <napi.h>

#include "core/fd.h"

namespace caisson {

// A NativeFd of src/native/types.ts that owns the descriptor: close() ends it, else its finalizer does.
Napi::Value native_fd(Napi::Env env, Fd fd);

void init_native_fd(Napi::Env env, Napi::Object exports);

}  // namespace caisson
