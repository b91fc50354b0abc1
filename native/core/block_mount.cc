#include "core/block_mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/mount_fd.h"

namespace caisson {
namespace {

// linux/loop.h
constexpr unsigned long kLoopGetFree = 0x4c82;      // LOOP_CTL_GET_FREE
constexpr unsigned long kLoopConfigure = 0x4c0a;    // LOOP_CONFIGURE, Linux 5.8
constexpr unsigned long kLoopGetStatus64 = 0x4c05;  // LOOP_GET_STATUS64
constexpr u32 kLoopReadOnly = 1;                    // LO_FLAGS_READ_ONLY
constexpr u32 kLoopAutoclear = 4;                   // LO_FLAGS_AUTOCLEAR
constexpr u32 kLoopDirectIo = 16;                   // LO_FLAGS_DIRECT_IO: where the file system can, else without
constexpr int kLoopTries = 64;                      // another process may take the free one first
constexpr int kLoopNodes = 1024;

struct LoopInfo64 {
  u64 device = 0;  // of the file system that holds the file, new_encode_dev()
  u64 inode = 0;
  u64 rdevice = 0;
  u64 offset = 0;
  u64 sizelimit = 0;
  u32 number = 0;
  u32 encrypt_type = 0;
  u32 encrypt_key_size = 0;
  u32 flags = 0;
  u8 file_name[64] = {};
  u8 crypt_name[64] = {};
  u8 encrypt_key[32] = {};
  u64 init[2] = {};
};
static_assert(sizeof(LoopInfo64) == 232);

struct LoopConfig {
  u32 fd = 0;
  u32 block_size = 0;
  LoopInfo64 info = {};
  u64 reserved[8] = {};
};
static_assert(sizeof(LoopConfig) == 304);

struct Name {
  Name(const char* format, int number) { snprintf(text, sizeof text, format, number); }
  char text[40];
};

Result<Fd> mount_opened(int device, const char* type, bool readonly, const char* label) {
  Fd context = CAISSON_TRY(fs_open(type));
  // The very device of the descriptor, whatever its node's name means by now.
  const Name source("/proc/self/fd/%d", device);
  CAISSON_TRY(fs_config_string(context.get(), "source", source.text));
  if (readonly) CAISSON_TRY(fs_config_flag(context.get(), "ro"));
  if (label != nullptr) CAISSON_TRY(fs_config_string(context.get(), "context", label));
  CAISSON_TRY(fs_config_create(context.get()));
  return fs_mount(context.get(), readonly ? u32{uapi::kMountAttrRdonly} : 0);
}

// The loop device that has the file of `st` already; without a descriptor: there is none.
Fd attached_loop(const struct stat& st, int mode) {
  for (int i = 0; i < kLoopNodes; ++i) {
    const Name node("/dev/loop%d", i);
    Fd loop(open(node.text, mode | O_CLOEXEC));
    if (!loop && errno == ENOENT && i >= 256) break;
    if (!loop) continue;
    LoopInfo64 info;
    if (ioctl(loop.get(), static_cast<int>(kLoopGetStatus64), &info) != 0) continue;  // ENXIO: free
    const u64 device =
        (minor(st.st_dev) & 0xff) | (u64{major(st.st_dev)} << 8) | ((u64{minor(st.st_dev)} & ~0xffull) << 12);
    if (info.inode == st.st_ino && info.device == device) return loop;
  }
  return Fd();
}

Result<Fd> new_loop(int file, int mode, u32 flags) {
  Fd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return Error::last("open", "/dev/loop-control");
  LoopConfig config;
  config.fd = static_cast<u32>(file);
  config.info.flags = kLoopAutoclear | flags;
  for (int i = 0; i < kLoopTries; ++i) {
    const int number = ioctl(control.get(), static_cast<int>(kLoopGetFree));
    if (number < 0) return Error::last("ioctl(LOOP_CTL_GET_FREE)");
    const Name node("/dev/loop%d", number);
    Fd loop(open(node.text, mode | O_CLOEXEC));
    if (!loop) return Error::last("open", node.text);
    if (ioctl(loop.get(), static_cast<int>(kLoopConfigure), &config) == 0) return loop;
    if (errno != EBUSY) return Error::last("ioctl(LOOP_CONFIGURE)", node.text);
  }
  return Error(EBUSY, "ioctl(LOOP_CONFIGURE)", "/dev/loop-control");
}

// A file of a layer; without a descriptor: there is none.
Result<Fd> open_part(int directory, const char* name) {
  Fd file(openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file && errno == ENOENT) return Fd();
  if (!file) return Error::last("openat", name);
  struct stat st = {};
  if (fstat(file.get(), &st) != 0) return Error::last("fstat", name);
  if (!S_ISREG(st.st_mode)) return Error(EINVAL, "openat", name);
  return file;
}

Result<Fd> loop_of(int file) {
  struct stat st = {};
  if (fstat(file, &st) != 0) return Error::last("fstat", "layer");
  Fd loop = attached_loop(st, O_RDONLY);
  if (loop) return loop;
  return new_loop(file, O_RDONLY, kLoopReadOnly | kLoopDirectIo);
}

// `source` and `device` (or -1) are files, or block devices.
Result<Fd> mount_index(int source, int device) {
  Fd context = CAISSON_TRY(fs_open("erofs"));
  CAISSON_TRY(fs_config_string(context.get(), "source", Name("/proc/self/fd/%d", source).text));
  if (device >= 0) CAISSON_TRY(fs_config_string(context.get(), "device", Name("/proc/self/fd/%d", device).text));
  CAISSON_TRY(fs_config_flag(context.get(), "ro"));
  CAISSON_TRY(fs_config_create(context.get()));
  return fs_mount(context.get(), u32{uapi::kMountAttrRdonly});
}

}  // namespace

Result<Fd> mount_device(const BlockDevice& device, const char* type, bool readonly, const char* label) {
  Fd node(open(device.path, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!node) return Error::last("open", device.path);
  struct stat st = {};
  if (fstat(node.get(), &st) != 0) return Error::last("fstat", device.path);
  if (!S_ISBLK(st.st_mode) || st.st_rdev != makedev(device.major, device.minor))
    return Error(ENODEV, "open", device.path);
  return mount_opened(node.get(), type, readonly, label);
}

Result<Fd> mount_image(const char* path, const char* type) {
  Fd file(open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!file) return Error::last("open", path);
  struct stat st = {};
  if (fstat(file.get(), &st) != 0) return Error::last("fstat", path);
  if (!S_ISREG(st.st_mode)) return Error(EINVAL, "open", path);
  Fd loop = attached_loop(st, O_RDWR);
  if (!loop) loop = CAISSON_TRY(new_loop(file.get(), O_RDWR, 0));
  return mount_opened(loop.get(), type, false, nullptr);
}

Result<Fd> mount_erofs(int directory) {
  Fd index = CAISSON_TRY(open_part(directory, kErofsIndex));
  if (!index) return Error(ENOENT, "openat", kErofsIndex);
  Fd archive = CAISSON_TRY(open_part(directory, kErofsArchive));
  Result<Fd> mounted = mount_index(index.get(), archive.get());
  // ENOTBLK: no kernel for files, or a file system that cannot be read so.
  if (mounted || mounted.error().err != ENOTBLK) return mounted;
  Fd device = CAISSON_TRY(loop_of(index.get()));
  Fd second;
  if (archive) second = CAISSON_TRY(loop_of(archive.get()));
  return mount_index(device.get(), second.get());
}

}  // namespace caisson
