// The mount API on descriptors: open_tree(2), fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount_setattr(2). A
// mount that only a descriptor holds is on nobody's table and goes with the descriptor (law 1). Over sys.h, with errors
// that carry call and object.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/uapi.h"

namespace caisson {

// With kOpenTreeClone: a detached copy of the mount at `path`, with kAtRecursive of all below it. Before Linux 6.15 a
// detached mount cannot be cloned again (EINVAL). OPEN_TREE_CLOEXEC is always added.
Result<Fd> open_tree(int dir, const char* path, u32 flags);

// A context for a new file system. ENODEV: the kernel does not know the type.
Result<Fd> fs_open(const char* type);

// One parameter. EINVAL: unknown to the file system, or over 255 bytes (the kernel's bound for a string). The error's
// object holds the file system's own words where it left some in the context's log.
Status fs_config_string(int context, const char* key, const char* value);
Status fs_config_flag(int context, const char* key);
Status fs_config_fd(int context, const char* key, int fd);

// Makes the super block.
Status fs_config_create(int context);

// A detached mount of a created super block; `attributes` are kMountAttr*.
Result<Fd> fs_mount(int context, u32 attributes);

// Attaches (or, before 6.15 only from the caller's own namespace, moves) a mount. Flags kMoveMount*.
Status move_mount(int from_dir, const char* from, int to_dir, const char* to, u32 flags);

// Changes attributes; with kAtRecursive of the whole tree or, on error, of none of it.
Status mount_set_attributes(int dir, const char* path, u32 flags, const uapi::MountAttr& attributes);

}  // namespace caisson
