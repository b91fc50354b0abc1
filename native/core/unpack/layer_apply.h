// LayerApply: one OCI image layer (an uncompressed tar) becomes one directory that overlayfs takes as a lower layer.
//
// The directory is meant to be empty at the start: what is found at an entry's name was put there by the same layer.
// The last of several entries with one name wins; directories keep what is in them. Whiteouts of the layer format
// (OCI image-spec layer.md) become those of overlayfs. Names and links of the archive cannot lead a write out of the
// directory (see LayerTree); the rest of the policy is told where it is carried out.
//
// Runs in the caller's thread, blocks on the file system, syncs nothing. Needs CAP_CHOWN, CAP_DAC_OVERRIDE,
// CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP and CAP_SYS_ADMIN (trusted.overlay.opaque).
#pragma once

#include <unistd.h>

#include "core/unpack/layer_attributes.h"
#include "core/unpack/layer_tree.h"
#include "core/unpack/layers_below.h"
#include "core/unpack/tar_reader.h"

namespace caisson {

struct LayerStats {
  u64 entries = 0;
  u64 bytes = 0;            // of regular files, as written
  u64 xattrs_left_out = 0;  // user.* attributes that the file system cannot hold
  // Directories that no entry describes, where there are layers below: so many at most, and the root.
  u64 implied = 0;
  bool implied_root = false;
  // The layer hides everything below it. overlayfs does not look at the mark on a layer's root: whoever stacks the
  // layers leaves the lower ones out.
  bool opaque_root = false;
};

class LayerApply {
 public:
  // `dirfd`: the directory, O_PATH or not; it stays the caller's. `inherits`: there are layers below. `mask`: the umask
  // of the thread that applies, as far as it is known. Modes that it leaves as they are need no chmod(2).
  static Result<LayerApply> create(int dirfd, const tar::Limits& limits, bool inherits = false, mode_t mask = 0777);

  // Applies the next bytes of the tar. After an error nothing more can be applied, and the directory is for removal.
  // The error's object is the entry.
  Status write(span<const u8> chunk);
  // The tar has ended. Error EBADMSG: it is cut short.
  Result<LayerStats> end();
  // Makes the layer whole: what no entry describes becomes what the layers below say of it. False: not yet, layers
  // further below are to be asked as well.
  Result<bool> settle(LayersBelow below);

 private:
  LayerApply(LayerTree tree, const tar::Limits& limits, bool inherits, mode_t mask)
      : tree_(static_cast<LayerTree&&>(tree)), reader_(limits), mask_(mask), uid_(geteuid()), gid_(getegid()) {
    stats_.implied_root = inherits;
  }

  Status begin(const tar::Entry& entry);
  Status begin_root(const tar::Entry& entry);
  Status put_data(u64 offset, span<const u8> data);
  Status end_entry(const tar::Entry& entry);

  Status whiteout(int parent, const char* name);
  Status make_directory_entry(int parent, const char* name, const tar::Entry& entry);
  Status make_file(int parent, const char* name, const tar::Entry& entry);
  Status make_hard_link(int parent, const char* name, const tar::Entry& entry);
  Status make_special(int parent, const char* name, const tar::Entry& entry);

  LayerTree tree_;
  tar::Reader reader_;
  LayerStats stats_;
  String path_;  // of the current entry, clean
  String leaf_;
  String link_;
  Fd file_;  // the regular file under way
  Inborn inborn_;
  mode_t mask_;
  uid_t uid_;
  gid_t gid_;
};

}  // namespace caisson
