// Paths as descriptors: openat2, and changes below a directory that never follow a link out of it (law 2).
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"
#include "core/uapi.h"

namespace caisson {

// openat2(2) as sys::openat2 does it. `resolve` holds the RESOLVE_* bits of uapi.h; a path that leaves its root is
// EXDEV.
Result<Fd> open_at2(int dir, const char* path, u64 flags, u64 mode, u64 resolve);

// How what is in a tree is opened, which may be somebody else's to write to: below it, by no link, on no other mount.
inline constexpr u64 kTreeBelow = uapi::kResolveBeneath | uapi::kResolveNoSymlinks | uapi::kResolveNoXdev;

// One component of a name as file systems take it: not empty, at most 255 bytes, no '/', not "." or "..".
bool is_file_name(string_view name);

// Appends the components of `path` to the clean path `clean` ("" or "/a/b"): "." and doubled slashes go, ".." takes the
// last one away and stops at the root.
void append_clean_path(String& clean, string_view path);

// What is left of a file that fits into `out`. EFBIG: it is longer. `name` is for the error.
Result<string_view> read_small(int fd, span<char> out, string_view name);

// mkdirat(2) of one component and a descriptor of it (O_RDONLY | O_DIRECTORY, links not followed). EEXIST is an error
// unless `reuse`. The mode is subject to the umask.
Result<Fd> make_directory_at(int dir, const char* name, u32 mode, bool reuse);

// Creates `name` with O_EXCL and mode 0600, and allocates `size` bytes (fallocate: a later write within them cannot
// meet ENOSPC). Removes the file again when the allocation fails.
Result<Fd> preallocate_at(int dir, const char* name, u64 size);

// An exclusive lock (flock(2)) on a file that is created with mode 0600 when absent. EAGAIN: another process holds it.
// The lock lives as long as the descriptor. Only who holds it may remove the file: who waited for the old one takes the
// new one, so that two processes never hold two files of one name.
Result<Fd> lock_file(const char* path);

// Removes a file or a whole tree below a directory descriptor. Symbolic links are removed, never followed; another
// mount is never entered (EXDEV); absent is success. Any depth, with at most 32 descriptors. Several may remove one
// tree at once. A tree that is being filled at the same time ends with ENOTEMPTY.
Status remove_tree_at(int dir, const char* name);

}  // namespace caisson
