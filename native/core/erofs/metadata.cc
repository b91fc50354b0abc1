#include "core/erofs/metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/erofs/area.h"
#include "core/erofs/format.h"

namespace caisson::erofs {
namespace {

// Marks of overlayfs, as unpack/layer_tree.h has them.
struct Mark {
  string_view name;
  string_view value;
  constexpr size_t size() const { return round_up(kXattrEntry + name.size() + value.size(), kXattrEntry); }
};
constexpr Mark kOpaque = {"overlay.opaque", "y"};
constexpr Mark kWhiteouts = {"overlay.origin", ""};
constexpr size_t kBlockMax = 4096;
constexpr u8 kTrusted = 4;  // the prefix "trusted."

// Where an inode and what belongs to it lie.
struct Place {
  u64 at = 0;      // from the beginning of the metadata
  u32 block = 0;   // of the first block of its own, from the end of the inodes
  u32 blocks = 0;  // full ones, or all
  u32 tail = 0;    // bytes behind the inode
  u64 size = 0;    // of a directory
  u32 links = 0;   // of a directory
};

struct Entry {
  string_view name;
  u32 inode = 0;
};

u8 type_of(u32 mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return 1;
    case S_IFDIR:
      return 2;
    case S_IFCHR:
      return 3;
    case S_IFBLK:
      return 4;
    case S_IFIFO:
      return 5;
    default:
      return 7;
  }
}

// As memcmp(3), the shorter one first: fs/erofs/namei.c searches by it.
int compare(const void* one, const void* other) {
  const Entry& a = *static_cast<const Entry*>(one);
  const Entry& b = *static_cast<const Entry*>(other);
  const size_t n = a.name.size() < b.name.size() ? a.name.size() : b.name.size();
  const int order = memcmp(a.name.data(), b.name.data(), n);
  if (order != 0) return order;
  return a.name.size() < b.name.size() ? -1 : 1;
}

class Writer {
 public:
  Writer(int fd, const Tree& tree, const Geometry& geometry)
      : tree_(tree), geometry_(geometry), block_(u64{1} << geometry.block_bits), inodes_(fd), blocks_(fd), fd_(fd) {}

  Status write() {
    place_all();
    inodes_end_ = round_up(end_, block_);
    const u64 all = (geometry_.metadata_at + inodes_end_) / block_ + own_blocks_;
    if (all > kBlocksMax) return Error(EFBIG, "unpack: the layer exceeds what an index can name", "layer.erofs");
    for (u32 i = 0; i < tree_.inodes(); ++i)
      if (tree_.inode(i).names != 0) CAISSON_TRY(put(i));
    CAISSON_TRY(inodes_.flush());
    CAISSON_TRY(blocks_.flush());
    // to whole pages: a loop device has no part of a sector
    if (ftruncate(fd_, static_cast<off_t>(round_up(all * block_, 4096))) != 0)
      return Error::last("ftruncate", "layer.erofs");
    return put_super_block(all);
  }

 private:
  // The names of a directory in their order, with itself and its parent.
  void list(u32 directory) {
    entries_.clear();
    entries_.push({".", directory});
    entries_.push({"..", tree_.inode(directory).parent});
    for (u32 i = tree_.inode(directory).first; i != kNone; i = tree_.name(i).next)
      if (tree_.name(i).inode != kNone) entries_.push({tree_.text(tree_.name(i).text), tree_.name(i).inode});
    qsort(entries_.data(), entries_.size(), sizeof(Entry), compare);
  }

  // How many of the entries from `first` on are in one block, and the bytes that they take.
  size_t block_of(size_t first, size_t& used) const {
    used = 0;
    size_t count = 0;
    while (first + count < entries_.size()) {
      const size_t more = kDirentSize + entries_[first + count].name.size();
      if (used + more > block_) break;
      used += more;
      ++count;
    }
    return count;
  }

  size_t attributes_size(const Inode& inode) const {
    const size_t marks = (inode.opaque ? kOpaque.size() : 0) + (inode.whiteouts ? kWhiteouts.size() : 0);
    return inode.xattrs.size + marks == 0 ? 0 : kXattrHeader + inode.xattrs.size + marks;
  }

  void place_all() {
    end_ = 2 * kNidSize;  // no inode has the number 0: readdir(3) takes it for a name that is gone
    for (u32 i = 0; i < tree_.inodes(); ++i) {
      places_.push({});
      if (tree_.inode(i).names != 0) place(i);
    }
  }

  void place(u32 index) {
    const Inode& inode = tree_.inode(index);
    Place& place = places_[index];
    const size_t header = kInodeSize + attributes_size(inode);
    ++count_;
    place.at = round_up(end_, kNidSize);
    end_ = place.at + header;
    if (S_ISREG(inode.mode) && inode.chunks != 0) {
      end_ = round_up(end_, kChunkSize) + u64{inode.chunks} * kChunkSize;
    } else if (S_ISDIR(inode.mode)) {
      place.links = 2;
      list(index);
      size_t used = 0;
      for (size_t i = 0; i < entries_.size();) {
        i += block_of(i, used);
        ++place.blocks;
      }
      for (const Entry& entry : entries_)
        if (tree_.is_directory(entry.inode)) ++place.links;
      place.links -= 2;  // "." and ".." are no children
      place.size = (place.blocks - 1) * block_ + used;
      place_tail(place, header, used);
    } else if (S_ISLNK(inode.mode)) {
      place.size = inode.link.size;
      place.blocks = static_cast<u32>(round_up(place.size, block_) / block_);
      place_tail(place, header, place.blocks == 1 ? place.size : block_);
    }
    if (place.blocks != 0) {
      place.block = static_cast<u32>(own_blocks_);
      own_blocks_ += place.blocks;
    }
  }

  // What is left over of the last block stands behind the inode, if all of it fits one block: the kernel takes no tail
  // that crosses one, and no short link whose inode does.
  void place_tail(Place& place, size_t header, u64 tail) {
    const u64 size = header + tail;
    if (size > block_ || tail == block_) return;
    if (place.at % block_ + size > block_) place.at = round_up(place.at, block_);
    end_ = place.at + size;
    place.tail = static_cast<u32>(tail);
    --place.blocks;
  }

  u64 block_address(const Place& place) const { return (geometry_.metadata_at + inodes_end_) / block_ + place.block; }

  Status put(u32 index) {
    const Inode& inode = tree_.inode(index);
    const Place& place = places_[index];
    const bool directory = S_ISDIR(inode.mode);
    const bool chunks = S_ISREG(inode.mode) && inode.chunks != 0;
    const Layout layout = chunks ? Layout::kChunks : place.tail != 0 ? Layout::kInline : Layout::kPlain;
    u64 data = place.blocks != 0 ? block_address(place) : 0;
    if (chunks) data = kChunkIndexes | inode.chunk_bits;
    if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) data = inode.device;
    const size_t attributes = attributes_size(inode);
    u8 raw[kInodeSize] = {};
    put16(raw, 1 | static_cast<u32>(layout) << 1);
    put16(raw + 2, attributes == 0 ? 0 : (attributes - kXattrHeader) / kXattrEntry + 1);
    put16(raw + 4, inode.mode);
    put64(raw + 8, S_ISREG(inode.mode) ? inode.size : place.size);
    put32(raw + 16, data);
    put32(raw + 20, index + 1);
    put32(raw + 24, inode.uid);
    put32(raw + 28, inode.gid);
    put64(raw + 32, static_cast<u64>(inode.mtime));
    put32(raw + 40, inode.mtime_nsec);
    put32(raw + 44, directory ? place.links : inode.names);
    u64 at = geometry_.metadata_at + place.at;
    CAISSON_TRY(inodes_.write(at, raw));
    at += kInodeSize;
    if (attributes != 0) CAISSON_TRY(put_attributes(inode, at));
    at += attributes;
    if (chunks) return put_chunks(inode, round_up(at, kChunkSize));
    if (directory) return put_directory(index, place, at);
    if (S_ISLNK(inode.mode)) {
      const string_view target = tree_.text(inode.link);
      const span<const u8> bytes(reinterpret_cast<const u8*>(target.data()), target.size());
      return place.tail != 0 ? inodes_.write(at, bytes) : blocks_.write(block_address(place) * block_, bytes);
    }
    return ok();
  }

  Status put_attributes(const Inode& inode, u64 at) {
    const u8 header[kXattrHeader] = {};
    CAISSON_TRY(inodes_.write(at, header));
    at += kXattrHeader;
    if (inode.opaque) CAISSON_TRY(put_mark(kOpaque, at));
    if (inode.whiteouts) CAISSON_TRY(put_mark(kWhiteouts, at));
    const string_view kept = tree_.text(inode.xattrs);
    return inodes_.write(at, {reinterpret_cast<const u8*>(kept.data()), kept.size()});
  }

  Status put_mark(const Mark& mark, u64& at) {
    u8 entry[32] = {};
    static_assert(kOpaque.size() <= sizeof entry && kWhiteouts.size() <= sizeof entry);
    entry[0] = static_cast<u8>(mark.name.size());
    entry[1] = kTrusted;
    put16(entry + 2, mark.value.size());
    memcpy(entry + kXattrEntry, mark.name.data(), mark.name.size());
    memcpy(entry + kXattrEntry + mark.name.size(), mark.value.data(), mark.value.size());
    CAISSON_TRY(inodes_.write(at, {entry, mark.size()}));
    at += mark.size();
    return ok();
  }

  Status put_chunks(const Inode& inode, u64 at) {
    for (u32 i = 0; i < inode.chunks; ++i) {
      const u64 chunk = tree_.chunks[inode.chunk + i];
      u8 raw[kChunkSize] = {};
      put16(raw + 2, chunk == kNoChunk ? 0 : chunk >> 32);
      put32(raw + 4, chunk);
      CAISSON_TRY(inodes_.write(at + i * kChunkSize, raw));
    }
    return ok();
  }

  Status put_directory(u32 index, const Place& place, u64 tail_at) {
    list(index);
    u64 block = place.blocks == 0 ? 0 : block_address(place);
    for (size_t first = 0; first < entries_.size();) {
      size_t used = 0;
      const size_t count = block_of(first, used);
      memset(page_, 0, sizeof page_);
      size_t names = count * kDirentSize;
      for (size_t i = 0; i < count; ++i) {
        const Entry& entry = entries_[first + i];
        u8* const raw = page_ + i * kDirentSize;
        put64(raw, places_[entry.inode].at / kNidSize);
        put16(raw + 8, names);
        raw[10] = type_of(tree_.inode(entry.inode).mode);
        memcpy(page_ + names, entry.name.data(), entry.name.size());
        names += entry.name.size();
      }
      first += count;
      const bool last = first == entries_.size();
      if (last && place.tail != 0) return inodes_.write(tail_at, {page_, used});
      // up to the block's end: the last name ends at a zero
      CAISSON_TRY(blocks_.write(block++ * block_, {page_, block_}));
    }
    return ok();
  }

  Status put_super_block(u64 all) {
    u8 raw[kSuperSize + kDeviceSize] = {};
    put32(raw, kMagic);
    put32(raw + 8, kCompatMtime);
    raw[12] = static_cast<u8>(geometry_.block_bits);
    put16(raw + 14, places_[Tree::kRoot].at / kNidSize);
    put64(raw + 16, count_);
    put32(raw + 36, all);
    put32(raw + 40, geometry_.metadata_at / block_);
    put32(raw + 80, kIncompatChunks | (geometry_.device ? kIncompatDevices : 0));
    if (geometry_.device) {
      put16(raw + 86, 1);
      put16(raw + 88, kDeviceAt / kDeviceSize);
      put32(raw + kSuperSize + 64, geometry_.device_blocks);
    }
    CAISSON_TRY(inodes_.write(kSuperAt, raw));
    return inodes_.flush();
  }

  const Tree& tree_;
  const Geometry& geometry_;
  const u64 block_;
  Area inodes_;
  Area blocks_;
  int fd_;
  Vec<Place> places_;
  Vec<Entry> entries_;  // of one directory
  u8 page_[kBlockMax] = {};
  u64 end_ = 0;  // of the inodes so far
  u64 inodes_end_ = 0;
  u64 own_blocks_ = 0;  // behind the inodes
  u64 count_ = 0;
};

}  // namespace

Status write_metadata(int fd, const Tree& tree, const Geometry& geometry) { return Writer(fd, tree, geometry).write(); }

}  // namespace caisson::erofs
