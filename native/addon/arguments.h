// Arguments from JavaScript, checked: a wrong type is a TypeError that names the function's argument.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "core/base.h"
#include "core/fd.h"

namespace caisson {

constexpr size_t kLayersMax = 501;                   // OVL_MAX_STACK, and an upper
constexpr i64 kSafeIntegerMax = (i64{1} << 53) - 1;  // Number.MAX_SAFE_INTEGER

int fd_argument(const Napi::Value& value, const char* name);      // an integer >= -100 (AT_FDCWD)
Fd fd_copy_argument(const Napi::Value& value, const char* name);  // what JavaScript closes meanwhile stays open here
i64 integer_argument(const Napi::Value& value, const char* name, i64 low, i64 high);
std::string string_argument(const Napi::Value& value, const char* name);  // without NUL
span<u8> buffer_argument(const Napi::Value& value, const char* name);     // a Buffer; lives as long as the value
std::vector<int> fds_argument(const Napi::Value& value, const char* name, size_t max);
std::vector<Fd> fd_copies_argument(const Napi::Value& value, const char* name, size_t max);
std::vector<std::string> strings_argument(const Napi::Value& value, const char* name, size_t max);

}  // namespace caisson
