// Owner, mode, extended attributes and time of an extracted entry.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/unpack/tar_reader.h"

namespace caisson {

// What an archive may not set. overlayfs would take trusted.overlay.* and user.overlay.* of a lower layer as its own
// records: a redirect or metacopy made by an image shows files of other directories and layers, an opaque or whiteout
// hides them beside the layer format's own marks. They also appear by mistake, in layers made from an upper directory;
// so they are passed over, not refused. security.selinux is a label of the policy of the host that made the image;
// trusted.caisson.* are marks of ours (core/unpack/implied.h).
bool is_foreign_attribute(string_view name);

// Both answer with the number of user.* attributes left out because the file system has none (tmpfs before Linux 6.6,
// NFS before 5.9): containerd and umoci do so too, and no program may rely on them. Any other attribute that cannot be
// set is an error: an image whose security.capability is lost does not work.

// What an inode has already: what is not set again, and what goes.
struct Inborn {
  bool owner = false;
  bool mode = false;
  bool xattrs = false;  // of an earlier entry, or by its directory: see drop_xattrs()
};

// Takes off what an archive does not say: of several entries the last one counts, and a directory hands its access
// control list down to what is made in it (acl(5)). What overlayfs takes for itself stays.
Status drop_xattrs(int fd, string_view name);

// `fd` is open for reading or writing: a file whose data is complete, or a directory.
Result<u32> set_attributes(int fd, const tar::Entry& entry, Inborn inborn = {});

// `fd` is an O_PATH descriptor of a link, device or FIFO, which cannot be opened (or not without side effects).
Result<u32> set_attributes_of_path(int fd, const tar::Entry& entry, Inborn inborn);

}  // namespace caisson
