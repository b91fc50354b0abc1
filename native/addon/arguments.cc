#include "addon/arguments.h"

#include <fcntl.h>
#include <math.h>

#include "addon/error.h"

namespace caisson {
namespace {

[[noreturn]] void refuse(const Napi::Value& value, const char* name, const char* expected) {
  throw Napi::TypeError::New(value.Env(), std::string("argument '") + name + "' must be " + expected);
}

Napi::Array array_argument(const Napi::Value& value, const char* name, size_t max) {
  if (!value.IsArray()) refuse(value, name, "an array");
  Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > max) refuse(value, name, ("an array of at most " + std::to_string(max)).c_str());
  return array;
}

}  // namespace

Fd fd_copy_argument(const Napi::Value& value, const char* name) {
  Fd copy(fcntl(fd_argument(value, name), F_DUPFD_CLOEXEC, 0));
  if (!copy) throw make_error(value.Env(), Error::last("fcntl(F_DUPFD_CLOEXEC)", name));
  return copy;
}

i64 integer_argument(const Napi::Value& value, const char* name, i64 low, i64 high) {
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) || number != floor(number))
    refuse(value, name, ("an integer from " + std::to_string(low) + " to " + std::to_string(high)).c_str());
  return static_cast<i64>(number);
}

int fd_argument(const Napi::Value& value, const char* name) {
  return static_cast<int>(integer_argument(value, name, -100, INT32_MAX));
}

std::string string_argument(const Napi::Value& value, const char* name) {
  if (!value.IsString()) refuse(value, name, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) refuse(value, name, "a string without NUL");
  return text;
}

span<u8> buffer_argument(const Napi::Value& value, const char* name) {
  if (!value.IsBuffer()) refuse(value, name, "a Buffer");
  Napi::Buffer<u8> buffer = value.As<Napi::Buffer<u8>>();
  return {buffer.Data(), buffer.Length()};
}

std::vector<int> fds_argument(const Napi::Value& value, const char* name, size_t max) {
  std::vector<int> fds;
  if (value.IsUndefined()) return fds;
  Napi::Array array = array_argument(value, name, max);
  for (u32 i = 0; i < array.Length(); ++i) fds.push_back(fd_argument(array.Get(i), name));
  return fds;
}

std::vector<Fd> fd_copies_argument(const Napi::Value& value, const char* name, size_t max) {
  const Napi::Array array = array_argument(value, name, max);
  std::vector<Fd> copies;
  for (u32 i = 0; i < array.Length(); ++i) copies.push_back(fd_copy_argument(array.Get(i), name));
  return copies;
}

std::vector<std::string> strings_argument(const Napi::Value& value, const char* name, size_t max) {
  Napi::Array array = array_argument(value, name, max);
  std::vector<std::string> strings;
  for (u32 i = 0; i < array.Length(); ++i) strings.push_back(string_argument(array.Get(i), name));
  return strings;
}

}  // namespace caisson
