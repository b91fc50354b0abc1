// Directories, files and trees by descriptor.
#include <fcntl.h>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "addon/native_fd.h"
#include "core/path.h"
#include "core/tree_usage.h"

namespace caisson {
namespace {

Napi::Value open_directory(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [path = string_argument(info[0], "path")] {
        return open_at2(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY, 0, 0);
      },
      native_fd);
}

Napi::Value openat2(const Napi::CallbackInfo& info) {
  int dir = fd_argument(info[0], "dirfd");
  u64 flags = static_cast<u64>(integer_argument(info[2], "flags", 0, kSafeIntegerMax));
  u64 mode = static_cast<u64>(integer_argument(info[3], "mode", 0, 07777));
  u64 resolve = static_cast<u64>(integer_argument(info[4], "resolve", 0, kSafeIntegerMax));
  return run_job(
      info.Env(),
      [=, path = string_argument(info[1], "path")] { return open_at2(dir, path.c_str(), flags, mode, resolve); },
      native_fd);
}

Napi::Value preallocate(const Napi::CallbackInfo& info) {
  int dir = fd_argument(info[0], "dirfd");
  u64 size = static_cast<u64>(integer_argument(info[2], "size", 1, kSafeIntegerMax));
  return run_job(
      info.Env(), [=, name = string_argument(info[1], "name")] { return preallocate_at(dir, name.c_str(), size); },
      native_fd);
}

Napi::Value lock(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(), [path = string_argument(info[0], "path")] { return lock_file(path.c_str()); }, native_fd);
}

Napi::Value remove_tree(const Napi::CallbackInfo& info) {
  int dir = fd_argument(info[0], "dirfd");
  return run_job(info.Env(),
                 [=, name = string_argument(info[1], "name")] { return remove_tree_at(dir, name.c_str()); });
}

Napi::Value tree_usage(const Napi::CallbackInfo& info) {
  int dir = fd_argument(info[0], "dirfd");
  return run_job(
      info.Env(), [=, name = string_argument(info[1], "name")] { return tree_usage_at(dir, name.c_str()); },
      [](Napi::Env env, TreeUsage usage) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("bytes", static_cast<double>(usage.bytes));
        object.Set("content", static_cast<double>(usage.content));
        object.Set("inodes", static_cast<double>(usage.inodes));
        return object;
      });
}

}  // namespace

void init_files(Napi::Env env, Napi::Object exports) {
  exports.Set("openDirectory", Napi::Function::New(env, open_directory, "openDirectory"));
  exports.Set("openat2", Napi::Function::New(env, openat2, "openat2"));
  exports.Set("preallocate", Napi::Function::New(env, preallocate, "preallocate"));
  exports.Set("lockFile", Napi::Function::New(env, lock, "lockFile"));
  exports.Set("treeUsage", Napi::Function::New(env, tree_usage, "treeUsage"));
  exports.Set("removeTree", Napi::Function::New(env, remove_tree, "removeTree"));
}

}  // namespace caisson
