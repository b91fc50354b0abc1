// LayerTree: resolves names of a hostile archive inside of one directory, by descriptors only.
//
// Policy, that of containerd and umoci: a name below a symbolic link lands where the link points, with the layer's
// directory as the root of every absolute target and of every ".."; no link leads out. Parents that are missing are
// made (root:root, 0755), also where a link dangles: its target may well live in a layer below. What layers below say
// of them is taken over later (core/unpack/implied.h).
#pragma once

#include <sys/stat.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// Brings an archive's name into normal form: no leading or doubled slash, no "." or "..". An absolute name is taken
// from the layer's root; empty: the root itself. Error EPERM: ".." leads out of the root.
Status clean_name(string_view raw, String& out);

// Whether a stat is that of overlayfs' whiteout: character device 0:0.
bool is_whiteout(const struct stat& st);

// Marks a directory as opaque for overlayfs (trusted.overlay.opaque=y): what lower layers hold in it is hidden.
Status make_opaque(int dirfd, string_view name);
bool is_opaque_directory(int dirfd);

// Has overlayfs pass over the whiteouts in a directory that no lower layer has, or whose lower ones are hidden. It
// lists such a directory as it is, whiteouts too, which then cannot be found, unless trusted.overlay.origin is there:
// empty, for an origin that is not known (fs/overlayfs: ovl_get_inode, ovl_path_check_origin_xattr).
Status mark_whiteouts(int dirfd, string_view name);

// Removes `name` below `parent`, with all that is in it; two descriptors whatever the depth. Follows no link.
Status evict(int parent, const char* name, string_view what);

class LayerTree {
 public:
  // `root` is any descriptor of the directory, O_PATH too; it stays the caller's. `inherits`: there are layers below.
  static Result<LayerTree> open(int root, bool inherits);
  LayerTree(LayerTree&&) noexcept = default;

  int root() const { return root_.get(); }

  // The directory that holds `path` (clean, not empty), made if missing, with the time `mtime`; open for reading, valid
  // until the next call. Its modification time is that of its own entry, so the tree puts it back once another
  // directory is asked for.
  Result<int> parent_of(string_view path, i64 mtime, String& leaf);
  // Whether a file made in the last parent has the group of its maker, which is `gid`, and the mode that it is made
  // with: neither a set-group-ID bit nor a default ACL hands down another (open(2), acl(5)).
  bool hands_nothing_down(gid_t gid) const { return parent_gid_ == gid && !parent_acl_; }
  bool hands_a_list_down() const { return parent_acl_; }
  // Puts the time of the last parent back. Due before a directory's own time is set, and at the end.
  Status settle();

  // How many directories were made that way, and have had a mark: some may be gone, or have got an entry.
  u64 implied() const { return implied_; }

  // Opens what `path` names, without following its last component: O_PATH.
  Result<Fd> find(string_view path) const;

 private:
  LayerTree(Fd root, bool inherits) : root_(static_cast<Fd&&>(root)), inherits_(inherits) {}
  Result<Fd> open_directory(string_view path) const;
  Result<Fd> make_directories(string_view path, i64 mtime);

  Fd root_;
  bool inherits_;
  u64 implied_ = 0;
  Fd parent_;
  String parent_path_;
  struct timespec parent_mtime_ = {};
  gid_t parent_gid_ = 0;
  bool parent_acl_ = false;
};

// openat2(2) of a single component that must not be a link.
Result<Fd> open_leaf(int dirfd, const char* name, int flags, u32 mode, string_view what);

// Makes a directory of mode 0755 and leaves the modification time of `dirfd` as it is.
Result<Fd> make_directory(int dirfd, const char* name, i64 mtime, string_view what);

}  // namespace caisson
