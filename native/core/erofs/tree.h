// Tree: what an EROFS index will hold, in memory: inodes, and their names in directories. Names of a hostile archive
// are resolved as LayerTree resolves them on a disk: below a symbolic link they land where it points, with the layer's
// root as the root of every absolute target and of every "..".
//
// Takes some 150 bytes for an entry, and its name; nothing else grows with the archive.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::erofs {

inline constexpr u32 kNone = ~u32{0};

// A part of Tree::text().
struct Text {
  u32 offset = 0;
  u32 size = 0;
};

struct Inode {
  u64 size = 0;  // of a file
  i64 mtime = 0;
  u32 mtime_nsec = 0;
  u32 uid = 0;
  u32 gid = 0;
  u32 mode = 0;            // S_IFMT too
  u32 device = 0;          // a device's number, as the kernel encodes it in 32 bits
  u32 names = 0;           // none: it was removed
  u32 parent = 0;          // of a directory
  u32 first = kNone;       // of a directory: index of a name in it
  u32 chunk = 0;           // of a file: index of its first chunk
  u32 chunks = 0;          // their number
  u32 chunk_bits = 0;      // log2 of the blocks of a chunk
  Text link = {};          // target of a symbolic link
  Text xattrs = {};        // entries of an attribute body as they are on disk
  bool opaque = false;     // of a directory: what lower layers hold in it is hidden
  bool implied = false;    // of a directory: no entry describes it, and layers below may (unpack/implied.h)
  bool whiteouts = false;  // of a directory: it holds some, or did (unpack/layer_tree.h: mark_whiteouts)
};

struct Name {
  u32 directory = 0;
  u32 inode = kNone;  // kNone: it was removed
  u32 same_hash = kNone;
  u32 next = kNone;  // in its directory
  Text text = {};
};

class Tree {
 public:
  static constexpr u32 kRoot = 0;

  // `inherits`: there are layers below.
  static Result<Tree> create(bool inherits);

  u32 add(u32 mode);
  Inode& inode(u32 index) { return inodes_[index]; }
  const Inode& inode(u32 index) const { return inodes_[index]; }
  u32 inodes() const { return static_cast<u32>(inodes_.size()); }
  const Name& name(u32 index) const { return names_[index]; }
  bool is_directory(u32 index) const;
  bool is_whiteout(u32 index) const;

  // The name's index, or kNone.
  u32 find(u32 directory, string_view name) const;
  void add_name(u32 directory, string_view name, u32 inode);
  // Takes a name away, and with a directory's all that is below it.
  void remove(u32 name);

  // The directory that `path` (clean, may be empty) names; what is missing is made, root's and 0755, with the time of
  // `mtime`. Errors ENOTDIR, ELOOP, ENAMETOOLONG.
  Result<u32> directory(string_view path, i64 mtime);
  // The inode that `path` names; a link at its end is not followed. Errors ENOENT, ENOTDIR, ELOOP.
  Result<u32> look_up(string_view path);

  // Keeps bytes. Error E2BIG: over the bound of all that is kept.
  Result<Text> keep(string_view bytes);
  string_view text(Text text) const { return part({text_.c_str(), text_.size()}, text.offset, text.size); }
  Status check_room() const;

  Vec<u64> chunks;  // of files: device << 32 | block, or kNoChunk

 private:
  explicit Tree(bool inherits) : inherits_(inherits) {}
  u32 bucket(u32 directory, string_view name) const;
  void grow();
  void unlink(u32 name);
  Result<u32> walk(string_view path, bool make, i64 mtime);

  bool inherits_;
  Vec<Inode> inodes_;
  Vec<Name> names_;
  Vec<u32> buckets_;  // a power of two
  String text_;
  u64 seed_[2] = {};
};

}  // namespace caisson::erofs
