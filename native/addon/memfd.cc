// Sealed memfds.
#include "core/memfd.h"

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "addon/native_fd.h"

namespace caisson {
namespace {

Napi::Value make(const Napi::CallbackInfo& info) {
  std::string name = string_argument(info[0], "name");
  MemfdKind kind = info[2].ToBoolean() ? MemfdKind::kExecutable : MemfdKind::kData;
  return native_fd(info.Env(),
                   value_of(info.Env(), sealed_memfd(name.c_str(), buffer_argument(info[1], "data"), kind)));
}

Napi::Value read(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = fd_argument(info[0], "fd");
  size_t limit = static_cast<size_t>(integer_argument(info[1], "limit", 0, kMemfdMax));
  size_t size = value_of(env, sealed_memfd_size(fd, limit));
  Napi::Buffer<u8> buffer = Napi::Buffer<u8>::New(env, size);
  value_of(env, read_memfd(fd, {buffer.Data(), size}));
  return buffer;
}

}  // namespace

void init_memfd(Napi::Env env, Napi::Object exports) {
  exports.Set("sealedMemfd", Napi::Function::New(env, make, "sealedMemfd"));
  exports.Set("readMemfd", Napi::Function::New(env, read, "readMemfd"));
}

}  // namespace caisson
