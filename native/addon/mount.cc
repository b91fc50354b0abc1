// The mount API on descriptors. There is no unshare, setns or pivot_root here, on purpose: Node runs ten threads and
// more that share one root and working directory (setns(CLONE_NEWNS) is EINVAL there), and pool threads are reused, so
// a namespace or an identity that one call changes would be met by another. Such work belongs to a program that spawn()
// starts.
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "addon/native_fd.h"
#include "core/block_mount.h"
#include "core/mount_fd.h"

namespace caisson {
namespace {

u32 flags_argument(const Napi::Value& value) {
  return static_cast<u32>(integer_argument(value, "flags", 0, UINT32_MAX));
}

// openTree(dirfd, path, flags): Promise<NativeFd>
Napi::Value tree(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [dir = fd_argument(info[0], "dirfd"), path = string_argument(info[1], "path"), flags = flags_argument(info[2])] {
        return open_tree(dir, path.c_str(), flags);
      },
      native_fd);
}

// fsopen(type): Promise<NativeFd>
Napi::Value context(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(), [type = string_argument(info[0], "type")] { return fs_open(type.c_str()); }, native_fd);
}

// fsconfig(context, key, value: string | number | true): Promise<void>; a number is a descriptor
Napi::Value configure(const Napi::CallbackInfo& info) {
  int fd = fd_argument(info[0], "context");
  std::string key = string_argument(info[1], "key");
  Napi::Value value = info[2];
  if (value.IsString())
    return run_job(info.Env(), [=, text = string_argument(value, "value")] {
      return fs_config_string(fd, key.c_str(), text.c_str());
    });
  if (value.IsNumber())
    return run_job(info.Env(),
                   [=, other = fd_argument(value, "value")] { return fs_config_fd(fd, key.c_str(), other); });
  if (value.IsBoolean() && value.ToBoolean())
    return run_job(info.Env(), [=] { return fs_config_flag(fd, key.c_str()); });
  throw Napi::TypeError::New(info.Env(), "argument 'value' must be a string, a descriptor or true");
}

// fsmount(context, attributes): Promise<NativeFd>; makes the super block first
Napi::Value mount(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [fd = fd_argument(info[0], "context"), attributes = flags_argument(info[1])]() -> Result<Fd> {
        CAISSON_TRY(fs_config_create(fd));
        return fs_mount(fd, attributes);
      },
      native_fd);
}

// mountImage(path, type): Promise<NativeFd>
Napi::Value image(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [path = string_argument(info[0], "path"), type = string_argument(info[1], "type")] {
        return mount_image(path.c_str(), type.c_str());
      },
      native_fd);
}

// mountDevice(path, major, minor, type, readonly): Promise<NativeFd>
Napi::Value device(const Napi::CallbackInfo& info) {
  const u32 major = static_cast<u32>(integer_argument(info[1], "major", 0, 0xfff));
  const u32 minor = static_cast<u32>(integer_argument(info[2], "minor", 0, 0xfffff));
  const bool readonly = info[4].ToBoolean();
  return run_job(
      info.Env(),
      [=, path = string_argument(info[0], "path"), type = string_argument(info[3], "type")] {
        return mount_device({path.c_str(), major, minor}, type.c_str(), readonly, nullptr);
      },
      native_fd);
}

// mountErofs(directory): Promise<NativeFd>
Napi::Value erofs_layer(const Napi::CallbackInfo& info) {
  auto directory = std::make_shared<Fd>(fd_copy_argument(info[0], "directory"));
  return run_job(
      info.Env(), [directory] { return mount_erofs(directory->get()); }, native_fd);
}

// letGo(fd): Promise<void>; on the pool, for an end that may take long: of a mount's last descriptor the file system is
// written back. The caller's own descriptor is closed by the caller, at once.
Napi::Value let_go_of(const Napi::CallbackInfo& info) {
  const int copy = fcntl(fd_argument(info[0], "fd"), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw make_error(info.Env(), Error::last("fcntl(F_DUPFD_CLOEXEC)"));
  return run_job(info.Env(), [copy]() -> Status {
    if (close(copy) != 0) return Error::last("close");
    return ok();
  });
}

// moveMount(fromDirfd, from, toDirfd, to, flags): Promise<void>
Napi::Value move(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [from_dir = fd_argument(info[0], "fromDirfd"), from = string_argument(info[1], "from"),
                              to_dir = fd_argument(info[2], "toDirfd"), to = string_argument(info[3], "to"),
                              flags = flags_argument(info[4])] {
    return move_mount(from_dir, from.c_str(), to_dir, to.c_str(), flags);
  });
}

// unmount(path): Promise<void>; what is busy goes when its last user does
Napi::Value unmount(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [path = string_argument(info[0], "path")]() -> Status {
    if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) return Error::last("umount2", path.c_str());
    return ok();
  });
}

// mountSetattr(dirfd, path, flags, { set, clear, propagation, userns }): Promise<void>
Napi::Value set_attributes(const Napi::CallbackInfo& info) {
  if (!info[3].IsObject()) throw Napi::TypeError::New(info.Env(), "argument 'attributes' must be an object");
  Napi::Object object = info[3].As<Napi::Object>();
  auto number = [&](const char* name) -> u64 {
    Napi::Value value = object.Get(name);
    return value.IsUndefined() ? 0 : static_cast<u64>(integer_argument(value, name, 0, (i64{1} << 53) - 1));
  };
  uapi::MountAttr attributes{number("set"), number("clear"), number("propagation"), number("userns")};
  return run_job(info.Env(), [=, dir = fd_argument(info[0], "dirfd"), path = string_argument(info[1], "path"),
                              flags = flags_argument(info[2])] {
    return mount_set_attributes(dir, path.c_str(), flags, attributes);
  });
}

}  // namespace

void init_mount(Napi::Env env, Napi::Object exports) {
  exports.Set("letGo", Napi::Function::New(env, let_go_of, "letGo"));
  exports.Set("mountImage", Napi::Function::New(env, image, "mountImage"));
  exports.Set("mountDevice", Napi::Function::New(env, device, "mountDevice"));
  exports.Set("mountErofs", Napi::Function::New(env, erofs_layer, "mountErofs"));
  exports.Set("openTree", Napi::Function::New(env, tree, "openTree"));
  exports.Set("fsopen", Napi::Function::New(env, context, "fsopen"));
  exports.Set("fsconfig", Napi::Function::New(env, configure, "fsconfig"));
  exports.Set("fsmount", Napi::Function::New(env, mount, "fsmount"));
  exports.Set("moveMount", Napi::Function::New(env, move, "moveMount"));
  exports.Set("unmount", Napi::Function::New(env, unmount, "unmount"));
  exports.Set("mountSetattr", Napi::Function::New(env, set_attributes, "mountSetattr"));
}

}  // namespace caisson
