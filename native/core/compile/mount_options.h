// The option words of a mount (runtime-spec config.md "Linux mount options", mount(8)) and what they mean to
// mount_setattr(2), fsconfig(2) and mount(2).
#pragma once

#include "core/compile/property.h"

namespace caisson::compile {

struct MountOptions {
  bool bind = false;
  bool recursive = false;  // rbind
  bool remount = false;
  bool copy_up = false;          // tmpcopyup
  bool idmap = false;            // idmap or ridmap
  bool recursive_idmap = false;  // ridmap
  bool shared_slave = false;     // shared, after slave
  u64 superblock_set = 0;        // MS_*
  u64 superblock_clr = 0;
  u64 attr_set = 0;  // MOUNT_ATTR_*
  u64 attr_clr = 0;
  u64 recursive_set = 0;
  u64 recursive_clr = 0;
  u32 propagation = 0;  // MS_SHARED..., with MS_REC or not; 0: not said
  String data;          // words of the file system, separated by commas
};

// Reads mounts[].options. Words that are in no table belong to the file system; x-* words are comments, as for
// mount(8). Errors: EINVAL (type, an empty word, a comma or control character), E2BIG (over 256 words or 4095 bytes of
// data).
Result<MountOptions> read_mount_options(const Property& options);

// Every word understood here, sorted: what `caisson-oci features` lists.
span<const string_view> mount_option_words();

}  // namespace caisson::compile
