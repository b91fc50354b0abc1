// Errors of core as errors of JavaScript: code, errno, syscall and path, as Node's own system errors carry them.
#pragma once

#include <napi.h>

#include "core/result.h"

namespace caisson {

// "ENOENT: no such file or directory, openat2 '/x'"; of the calls "compile" and "parse" their sentence alone:
// "process.cwd: 'x' is not absolute". errno is negative, as in Node.
Napi::Error make_error(Napi::Env env, const Error& error);

}  // namespace caisson
