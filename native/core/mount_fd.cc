#include "core/mount_fd.h"

#include "core/sys.h"

namespace caisson {
namespace {

// A file system context answers read(2) with one message per call, "e text", "w text" or "i text". The first error says
// more than the errno; the rest is read too, so that it does not stand in front of the next failure.
Error context_error(int context, const char* call, const char* key) {
  Error error = Error::last(call, key);
  bool told = false;
  for (int i = 0; i < 8; ++i) {  // the kernel keeps 8
    char message[Error::kObjectMax];
    ssize_t n = read(context, message, sizeof message);
    if (n <= 0) break;
    if (message[0] != 'e' || told || n < 3) continue;
    told = true;
    while (n > 2 && message[n - 1] == '\n') --n;
    size_t used = strlen(error.object);
    auto append = [&](string_view text) {
      size_t room = Error::kObjectMax - 1 - used;
      size_t take = text.size() < room ? text.size() : room;
      memcpy(error.object + used, text.data(), take);
      used += take;
    };
    if (used != 0) append(": ");
    append(string_view(message + 2, static_cast<size_t>(n) - 2));
  }
  return error;
}

Status config(int context, u32 command, const char* key, const void* value, int aux) {
  if (sys::fsconfig(context, command, key, value, aux) == 0) return ok();
  return context_error(context, "fsconfig", key != nullptr ? key : "");
}

}  // namespace

Result<Fd> open_tree(int dir, const char* path, u32 flags) {
  Fd fd(sys::open_tree(dir, path, flags));
  if (!fd) return Error::last("open_tree", path);
  return fd;
}

Result<Fd> fs_open(const char* type) {
  Fd fd(sys::fsopen(type));
  if (!fd) return Error::last("fsopen", type);
  return fd;
}

Status fs_config_string(int context, const char* key, const char* value) {
  return config(context, uapi::kFsconfigSetString, key, value, 0);
}

Status fs_config_flag(int context, const char* key) { return config(context, uapi::kFsconfigSetFlag, key, nullptr, 0); }

Status fs_config_fd(int context, const char* key, int fd) {
  return config(context, uapi::kFsconfigSetFd, key, nullptr, fd);
}

Status fs_config_create(int context) { return config(context, uapi::kFsconfigCmdCreate, nullptr, nullptr, 0); }

Result<Fd> fs_mount(int context, u32 attributes) {
  Fd fd(sys::fsmount(context, attributes));
  if (!fd) return context_error(context, "fsmount", "");
  return fd;
}

Status move_mount(int from_dir, const char* from, int to_dir, const char* to, u32 flags) {
  if (sys::move_mount(from_dir, from, to_dir, to, flags) != 0)
    return Error::last("move_mount", *to != '\0' ? to : from);
  return ok();
}

Status mount_set_attributes(int dir, const char* path, u32 flags, const uapi::MountAttr& attributes) {
  if (sys::mount_setattr(dir, path, static_cast<int>(flags), attributes) != 0)
    return Error::last("mount_setattr", path);
  return ok();
}

}  // namespace caisson
