#include "core/erofs/layer_index.h"

#include <errno.h>
#include <sys/stat.h>

#include "core/erofs/format.h"
#include "core/erofs/metadata.h"
#include "core/unpack/layer_attributes.h"
#include "core/unpack/layer_names.h"

namespace caisson::erofs {
namespace {

constexpr u64 kDataAt = 4096;      // behind the super block
constexpr size_t kNameMax = 255;   // of a component
constexpr size_t kPathMax = 4096;  // with its end: no system call takes a longer one
constexpr u64 kSparseChunks = 64;  // of a sparse file; one more for each 2 KiB that are stored of it
constexpr u64 kStoredPerChunk = 2048;
constexpr u64 kArchive = 1;            // the device
constexpr size_t kXattrNameMax = 255;  // XATTR_NAME_MAX

// struct erofs_xattr_entry: the prefix of a name is a number.
struct Prefix {
  string_view text;
  u8 index;
};
constexpr Prefix kPrefixes[] = {{"user.", 1}, {"trusted.", 4}, {"security.", 6}};
constexpr Prefix kWholeNames[] = {{"system.posix_acl_access", 2}, {"system.posix_acl_default", 3}};

bool split(string_view name, u8& index, string_view& rest) {
  for (const Prefix& each : kWholeNames) {
    if (name != each.text) continue;
    index = each.index;
    rest = {};
    return true;
  }
  for (const Prefix& each : kPrefixes) {
    if (!name.starts_with(each.text) || name.size() == each.text.size()) continue;
    index = each.index;
    rest = part(name, each.text.size());
    return true;
  }
  return false;
}

void add_entry(String& to, u8 index, string_view name, string_view value) {
  const char head[] = {static_cast<char>(name.size()), static_cast<char>(index), static_cast<char>(value.size()),
                       static_cast<char>(value.size() >> 8)};
  to.append({head, sizeof head}).append(name).append(value);
  static constexpr char kZeros[kXattrEntry] = {};
  to.append({kZeros, round_up(to.size(), kXattrEntry) - to.size()});
}

// new_encode_dev() of the kernel.
u32 encode_device(u32 major, u32 minor) { return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12); }

Error attribute_error(int err, const tar::Entry& entry, const tar::Xattr& xattr) {
  String what;
  what.append(xattr.name).append(" of ").append(entry.path);
  return Error(err, "setxattr", what);
}

}  // namespace

LayerIndex::LayerIndex(int fd, const IndexForm& form, Tree tree, const tar::Limits& limits)
    : fd_(fd),
      form_(form),
      tree_(static_cast<Tree&&>(tree)),
      reader_(limits),
      data_(fd),
      next_block_(kDataAt >> form.block_bits) {}

Result<LayerIndex> LayerIndex::create(int fd, const IndexForm& form, const tar::Limits& limits, bool inherits) {
  return LayerIndex(fd, form, CAISSON_TRY(Tree::create(inherits)), limits);
}

Status LayerIndex::write(span<const u8> chunk) {
  using Event = tar::Reader::Event;
  const u8* const begin_of_chunk = chunk.data();
  const u64 size = chunk.size();
  for (;;) {
    switch (CAISSON_TRY(reader_.next(chunk))) {
      case Event::kMore:
        position_ += size;
        return ok();
      case Event::kEntry:
        CAISSON_TRY(begin(reader_.entry(), position_ + static_cast<u64>(chunk.data() - begin_of_chunk)));
        break;
      case Event::kData:
        if (counted_) stats_.bytes += reader_.data().size();
        if (file_ != kNone) CAISSON_TRY(put_data(reader_.offset(), reader_.data()));
        break;
      case Event::kEntryEnd:
        break;
    }
  }
}

Result<LayerStats> LayerIndex::end() {
  CAISSON_TRY(reader_.finish());
  CAISSON_TRY(data_.flush());
  stats_.entries = reader_.entries();
  stats_.implied_root = root().implied;
  for (u32 i = Tree::kRoot + 1; i < tree_.inodes(); ++i)
    if (tree_.inode(i).implied && tree_.inode(i).names != 0) ++stats_.implied;
  return stats_;
}

Result<bool> LayerIndex::settle(LayersBelow below) {
  if (!CAISSON_TRY(inherit(below))) return false;
  const u64 block = u64{1} << form_.block_bits;
  const u64 metadata_at = round_up(next_block_ * block, kDataAt);
  const u64 device_blocks = round_up(position_, block) / block;
  CAISSON_TRY(write_metadata(fd_, tree_, {form_.block_bits, metadata_at, form_.archive, device_blocks}));
  return true;
}

// As core/unpack/implied.cc does it with a tree on a disk.
Result<bool> LayerIndex::inherit(LayersBelow& below) {
  struct Directory {
    u32 inode = Tree::kRoot;
    Text name = {};
    u32 depth = 0;
  };
  bool all = true;
  Vec<Directory> pending;
  pending.push({});
  while (!pending.empty()) {
    const Directory directory = pending.back();
    pending.pop();
    const Inode& inode = tree_.inode(directory.inode);
    below.enter(directory.depth, tree_.text(directory.name), inode.opaque);
    if (inode.implied) {
      const LayersBelow::Answer answer = CAISSON_TRY(below.find());
      if (answer.entry != nullptr) CAISSON_TRY(set_attributes(directory.inode, *answer.entry));
      all = all && answer.known;
    }
    // layers below have no directory that lies deeper
    if (stats_.implied == 0 || below.path().size() >= kPathMax) continue;
    for (u32 i = inode.first; i != kNone; i = tree_.name(i).next) {
      const Name& name = tree_.name(i);
      if (name.inode != kNone && tree_.is_directory(name.inode))
        pending.push({name.inode, name.text, directory.depth + 1});
    }
  }
  return all;
}

Status LayerIndex::begin(const tar::Entry& entry, u64 position) {
  file_ = kNone;
  counted_ = false;
  CAISSON_TRY(tree_.check_room());
  CAISSON_TRY(clean_name(entry.path, path_));
  if (path_.empty()) {
    if (entry.type != tar::Type::kDirectory)
      return Error(ENOTDIR, "unpack: an entry would replace the layer's root", entry.path);
    return set_attributes(Tree::kRoot, entry);
  }
  const LayerName kind = classify(path_);
  if (kind == LayerName::kAufs) return ok();
  if (kind == LayerName::kReserved) return Error(EINVAL, "unpack: a parent has the name of a whiteout", entry.path);

  const size_t slash = path_.view().rfind('/');
  const string_view above = part(path_, 0, slash == string_view::npos ? 0 : slash);
  const string_view name = part(path_, slash == string_view::npos ? 0 : slash + 1);
  if (name.size() > kNameMax || path_.size() >= kPathMax)
    return Error(ENAMETOOLONG, "unpack: a name is too long", entry.path);
  if (parent_ == kNone || parent_path_.view() != above) {
    parent_ = CAISSON_TRY(tree_.directory(above, entry.mtime));
    parent_path_.clear();
    parent_path_.append(above);
  }
  if (kind == LayerName::kOpaque) {
    if (above.empty()) stats_.opaque_root = true;
    tree_.inode(parent_).opaque = true;
    return ok();
  }
  if (kind == LayerName::kWhiteout) return whiteout(parent_, part(name, kWhiteoutPrefix.size()));
  if (entry.type == tar::Type::kDirectory) return make_directory(parent_, name, entry);
  if (entry.type == tar::Type::kHardLink) return make_hard_link(parent_, name, entry);

  u32 type = S_IFREG;
  if (entry.type == tar::Type::kSymlink) type = S_IFLNK;
  if (entry.type == tar::Type::kFifo) type = S_IFIFO;
  if (entry.type == tar::Type::kCharDevice) type = S_IFCHR;
  if (entry.type == tar::Type::kBlockDevice) type = S_IFBLK;
  const u32 inode = tree_.add(type);
  // A device 0:0 is a whiteout to overlayfs, as it was where such a layer was made: from an upper directory.
  if (type == S_IFCHR || type == S_IFBLK) tree_.inode(inode).device = encode_device(entry.dev_major, entry.dev_minor);
  replace(parent_, name, inode);
  if (type == S_IFLNK) CAISSON_TRY(make_link(entry, inode));
  if (type == S_IFREG) CAISSON_TRY(place_data(inode, entry, position));
  return set_attributes(inode, entry);
}

void LayerIndex::replace(u32 parent, string_view name, u32 inode) {
  const u32 taken = tree_.find(parent, name);
  if (taken != kNone) tree_.remove(taken);
  tree_.add_name(parent, name, inode);
}

Status LayerIndex::whiteout(u32 parent, string_view name) {
  if (name.empty() || name == "." || name == "..") return Error(EINVAL, "unpack: a whiteout of no entry", path_);
  const u32 taken = tree_.find(parent, name);
  if (taken == kNone) {
    const u32 made = tree_.add(S_IFCHR);
    tree_.inode(made).mtime = reader_.entry().mtime;
    tree_.add_name(parent, name, made);
  } else if (tree_.is_directory(tree_.name(taken).inode)) {
    tree_.inode(tree_.name(taken).inode).opaque = true;
  }
  return ok();
}

Status LayerIndex::make_directory(u32 parent, string_view name, const tar::Entry& entry) {
  const u32 taken = tree_.find(parent, name);
  u32 inode = taken == kNone ? kNone : tree_.name(taken).inode;
  if (inode == kNone || !tree_.is_directory(inode)) {
    const bool opaque = inode != kNone;
    inode = tree_.add(S_IFDIR);
    tree_.inode(inode).opaque = opaque;
    replace(parent, name, inode);
  }
  return set_attributes(inode, entry);
}

Status LayerIndex::make_hard_link(u32 parent, string_view name, const tar::Entry& entry) {
  const Status clean = clean_name(entry.link, link_);
  if (!clean) return Error(clean.error().err, clean.error().call, both_names(entry.path, entry.link));
  const Result<u32> target = tree_.look_up(link_);
  if (!target) return Error(target.error().err, "unpack: target of a hard link", both_names(entry.path, entry.link));
  if (tree_.is_directory(*target))
    return Error(EISDIR, "unpack: target of a hard link", both_names(entry.path, entry.link));
  const u32 taken = tree_.find(parent, name);
  // linked already: removal of the name first might remove the target itself
  if (taken != kNone && tree_.name(taken).inode == *target) return ok();
  replace(parent, name, *target);
  return ok();
}

Status LayerIndex::make_link(const tar::Entry& entry, u32 inode) {
  if (entry.link.empty()) return Error(ENOENT, "symlinkat", path_);
  if (entry.link.size() >= kPathMax) return Error(ENAMETOOLONG, "symlinkat", path_);
  tree_.inode(inode).link = CAISSON_TRY(tree_.keep(entry.link));
  return ok();
}

// Of several entries of a directory the last one counts.
Status LayerIndex::set_attributes(u32 index, const tar::Entry& entry) {
  Inode& inode = tree_.inode(index);
  const bool directory = S_ISDIR(inode.mode);
  inode.implied = false;
  inode.mode = (inode.mode & S_IFMT) | (S_ISLNK(inode.mode) ? 0777 : entry.mode);
  inode.uid = entry.uid;
  inode.gid = entry.gid;
  inode.mtime = entry.mtime;
  inode.mtime_nsec = entry.mtime_nsec;
  inode.xattrs = {};
  if (entry.xattrs.empty()) return ok();

  attributes_.clear();
  const auto given_again = [&](u8 prefix, string_view name, size_t from) {
    for (size_t i = from; i < entry.xattrs.size(); ++i) {
      u8 other = 0;
      string_view rest;
      if (split(entry.xattrs[i].name, other, rest) && other == prefix && rest == name) return true;
    }
    return false;
  };
  for (size_t i = 0; i < entry.xattrs.size(); ++i) {
    const tar::Xattr& xattr = entry.xattrs[i];
    if (is_foreign_attribute(xattr.name)) continue;
    // xattr(7): user attributes exist on files and directories only, on every file system.
    if (!directory && !S_ISREG(inode.mode) && xattr.name.view().starts_with("user.")) continue;
    u8 prefix = 0;
    string_view rest;
    if (!split(xattr.name, prefix, rest)) return attribute_error(ENOTSUP, entry, xattr);
    if (xattr.name.size() > kXattrNameMax) return attribute_error(ERANGE, entry, xattr);
    if (prefix == 3 && !directory) return attribute_error(EACCES, entry, xattr);
    if (xattr.value.size() > 0xffff) return attribute_error(E2BIG, entry, xattr);
    if (given_again(prefix, rest, i + 1)) continue;  // the last one wins
    add_entry(attributes_, prefix, rest, xattr.value);
  }
  if (attributes_.size() > kXattrMax - 64) return Error(E2BIG, "setxattr", entry.path);
  inode.xattrs = CAISSON_TRY(tree_.keep(attributes_));
  return ok();
}

// Chunks as large as the file, where its data is in one piece; of a sparse one smaller, so that its holes are some.
Status LayerIndex::place_data(u32 index, const tar::Entry& entry, u64 position) {
  counted_ = true;
  Inode& inode = tree_.inode(index);
  inode.size = entry.size;
  if (entry.size == 0) return ok();
  const u64 block = u64{1} << form_.block_bits;
  const u64 stored = entry.stored / kStoredPerChunk;
  const u64 wanted = !entry.sparse ? 1 : stored > kSparseChunks ? stored : kSparseChunks;
  const u64 blocks = entry.size / block + (entry.size % block != 0 ? 1 : 0);
  u32 bits = 0;
  while (bits < kChunkBitsMax && (blocks - 1) >> bits >= wanted) ++bits;
  const u64 chunks = ((blocks - 1) >> bits) + 1;
  if (entry.size > INT64_MAX || chunks > (kBlocksMax >> bits) + kSparseChunks)
    return Error(EFBIG, "unpack: the file exceeds what an index can name", entry.path);
  inode.chunk_bits = bits;
  inode.chunk = static_cast<u32>(tree_.chunks.size());
  inode.chunks = static_cast<u32>(chunks);
  const bool in_place = form_.archive && !entry.sparse;
  if (in_place && (position + entry.size) / block >= kBlocksMax)
    return Error(EFBIG, "unpack: the layer exceeds what an index can name", entry.path);
  for (u64 i = 0; i < chunks; ++i)
    tree_.chunks.push(in_place ? (kArchive << 32) | (position / block + (i << bits)) : kNoChunk);
  if (!in_place) file_ = index;
  return ok();
}

Status LayerIndex::put_data(u64 offset, span<const u8> data) {
  const Inode& inode = tree_.inode(file_);
  const u32 shift = form_.block_bits + inode.chunk_bits;
  while (!data.empty()) {
    const u64 chunk = offset >> shift;
    const u64 inside = offset - (chunk << shift);
    const u64 room = (u64{1} << shift) - inside;
    const size_t n = data.size() < room ? data.size() : room;
    u64& place = tree_.chunks[inode.chunk + chunk];
    if (place == kNoChunk) {
      const u64 left = inode.size - (chunk << shift);
      const u64 whole = u64{1} << shift;
      const u64 block = u64{1} << form_.block_bits;
      place = next_block_;
      next_block_ += round_up(left < whole ? left : whole, block) / block;
      if (next_block_ > kBlocksMax)
        return Error(EFBIG, "unpack: the layer exceeds what an index can name", reader_.entry().path);
    }
    CAISSON_TRY(data_.write((place << form_.block_bits) + inside, data.first(n)));
    offset += n;
    data = data.subspan(n);
  }
  return ok();
}

}  // namespace caisson::erofs
