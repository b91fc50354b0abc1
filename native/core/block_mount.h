// File systems on block devices and on files, as mounts that only a descriptor holds.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"

namespace caisson {

struct BlockDevice {
  const char* path = nullptr;  // a node in a /dev of the caller's mount namespace
  u32 major = 0;               // what the node must be of: ENODEV where it is another device's
  u32 minor = 0;
};

// A detached mount of the file system `type` on a device. `readonly` makes the super block read-only; `label`, unless
// it is null, is the SELinux context of all that is in it. Allocates nothing.
Result<Fd> mount_device(const BlockDevice& device, const char* type, bool readonly, const char* label);

// The same on a regular file, through a loop device. The mount alone keeps the loop device: it is gone with the mount,
// in whatever namespace it ends. A file that has one already (its file system is mounted somewhere) shares it, and with
// it the super block. Needs /dev/loop-control and devtmpfs, or nodes for the devices. Allocates nothing.
Result<Fd> mount_image(const char* path, const char* type);

// What a layer that is indexed, not unpacked, has in its directory (core/erofs/layer_index.h).
inline constexpr char kErofsIndex[] = "layer.erofs";
inline constexpr char kErofsArchive[] = "layer.tar";  // only where the index points into it

// A detached read-only mount of such a layer; `directory` is a descriptor of its directory, O_PATH too. Its files as
// they are, where the kernel mounts such (Linux 6.12, and not from every file system); else through loop devices, as
// mount_image() does. Errors: ENODEV, the kernel knows no EROFS; EINVAL, no blocks of this size (before 6.4) or a
// damaged index. Needs /proc. Allocates nothing.
Result<Fd> mount_erofs(int directory);

}  // namespace caisson
