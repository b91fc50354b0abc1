// Device mapper by its ioctls (Documentation/admin-guide/device-mapper, linux/dm-ioctl.h): devices of one target, as
// thin provisioning needs them. No library; nodes are devtmpfs' /dev/dm-<minor>.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct MapperDevice {
  bool present = false;
  bool suspended = false;
  u32 major = 0;
  u32 minor = 0;
  u32 open_count = 0;
  String status;  // of its target: "<used>/<total> ..." of a thin pool
};

struct MapperTarget {
  u64 sectors = 0;  // of 512 bytes
  string_view type;
  string_view params;
  bool readonly = false;
};

// Makes, loads and resumes a device; takes it away again when one of these fails. EBUSY: the name is taken.
Result<MapperDevice> mapper_create(string_view name, const MapperTarget& target);
// What is not there is not present.
Result<MapperDevice> mapper_status(string_view name);
// Absent is fine. EBUSY: it is open.
Status mapper_remove(string_view name);
// A message to the target: "create_thin 1".
Status mapper_message(string_view name, string_view message);
// Suspended with its file system frozen (lockfs), or running again.
Status mapper_suspend(string_view name, bool suspend);

struct BlockSize {
  u64 bytes = 0;
  u32 major = 0;
  u32 minor = 0;
};
// Of a block device's node. ENOTBLK: it is none.
Result<BlockSize> block_size(const char* path);

}  // namespace caisson
