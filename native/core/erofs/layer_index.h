// LayerIndex: one OCI image layer (an uncompressed tar) becomes an EROFS file system without being unpacked. Bytes of
// the tar go through once; what is left at the end is a file with the metadata, whose files' data is where it was.
//
// The tree is the one that LayerApply makes of the same bytes, with the same policy and errors: what an archive may
// say, and how overlayfs sees whiteouts and opaque directories, is told there. Differences: names of directories and of
// links have no bound of a file system; an attribute has 65535 bytes at most, all of an entry 256 KiB.
//
// Two forms. Blocks of 512 bytes (Linux 6.4), where `archive` is set: data is named where it stands in the archive,
// which is kept as it is, as device 1; only that of sparse files is copied. Else, for any kernel: data is copied into
// the file itself, each file's to the beginning of a block.
#pragma once

#include "core/erofs/area.h"
#include "core/erofs/tree.h"
#include "core/unpack/layer_apply.h"
#include "core/unpack/tar_reader.h"

namespace caisson::erofs {

struct IndexForm {
  u32 block_bits = 9;  // log2 of a block: 9 to 12
  bool archive = true;
};

class LayerIndex {
 public:
  // `fd`: the file, empty, open for writing; it stays the caller's.
  static Result<LayerIndex> create(int fd, const IndexForm& form, const tar::Limits& limits, bool inherits);

  // The next bytes of the tar. After an error the file is for removal. The error's object is the entry.
  Status write(span<const u8> chunk);
  // As LayerApply has them; only settle() makes a file system of the file.
  Result<LayerStats> end();
  Result<bool> settle(LayersBelow below);
  // The layer's top.
  const Inode& root() const { return tree_.inode(Tree::kRoot); }

 private:
  LayerIndex(int fd, const IndexForm& form, Tree tree, const tar::Limits& limits);
  Result<bool> inherit(LayersBelow& below);

  Status begin(const tar::Entry& entry, u64 position);
  Status whiteout(u32 parent, string_view name);
  Status make_directory(u32 parent, string_view name, const tar::Entry& entry);
  Status make_hard_link(u32 parent, string_view name, const tar::Entry& entry);
  Status make_link(const tar::Entry& entry, u32 inode);
  Status set_attributes(u32 inode, const tar::Entry& entry);
  Status place_data(u32 inode, const tar::Entry& entry, u64 position);
  Status put_data(u64 offset, span<const u8> data);
  void replace(u32 parent, string_view name, u32 inode);

  int fd_;
  IndexForm form_;
  Tree tree_;
  tar::Reader reader_;
  Area data_;
  LayerStats stats_;
  u64 position_ = 0;      // in the archive, of the chunk under way
  u64 next_block_ = 0;    // of the file's own data
  u32 file_ = kNone;      // whose data is copied
  bool counted_ = false;  // the data that comes is a file's
  String path_;
  String link_;
  String attributes_;
  String parent_path_;
  u32 parent_ = kNone;
};

}  // namespace caisson::erofs
