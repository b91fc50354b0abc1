// TarReader: a push parser of tar streams. Bytes go in as they arrive, in pieces of any size; events come out.
//
// Understood: V7, ustar, star, GNU (long names and links, base-256 numbers, old sparse) and PAX (names, sizes, times
// with nanoseconds, owners, SCHILY.xattr, GNU sparse 0.0, 0.1, 1.0). The end of an archive is taken as GNU tar takes
// it: a zero block ends it and whatever follows is ignored; so does the end of the stream between two entries.
#pragma once

#include "core/unpack/pax.h"
#include "core/unpack/tar_format.h"

namespace caisson::tar {

enum class Type : u8 { kFile, kHardLink, kSymlink, kCharDevice, kBlockDevice, kDirectory, kFifo };

struct Entry {
  Type type = Type::kFile;
  String path;   // as written: not empty, no NUL; may be absolute or hold ".."
  String link;   // target of kHardLink and kSymlink
  u32 mode = 0;  // permission bits, 07777
  u32 uid = 0;
  u32 gid = 0;
  i64 mtime = 0;  // seconds since the epoch
  u32 mtime_nsec = 0;
  u32 dev_major = 0;
  u32 dev_minor = 0;
  u64 size = 0;    // of the file once extracted
  u64 stored = 0;  // bytes of it that the archive holds: less than size when sparse
  bool sparse = false;
  Vec<Xattr> xattrs;
};

class Reader {
 public:
  enum class Event : u8 {
    kMore,      // the input is used up
    kEntry,     // entry() is the next one
    kData,      // data() belongs at offset() of the file
    kEntryEnd,  // the entry is complete; follows every kEntry
  };

  explicit Reader(const Limits& limits = {}) : limits_(limits) {}

  // Takes bytes from the front of `input` up to the next event. After an error the reader is of no more use.
  // Errors name the entry: EBADMSG for what is no tar, ENAMETOOLONG, E2BIG and EFBIG for a bound, ENOTSUP for a type
  // of entry that no Linux image needs.
  Result<Event> next(span<const u8>& input);
  // The stream has ended. Error EBADMSG, naming the entry, when the archive is cut short.
  Status finish() const;

  const Entry& entry() const { return entry_; }
  span<const u8> data() const { return data_; }
  u64 offset() const { return offset_; }
  u64 entries() const { return entries_; }

 private:
  enum class State : u8 { kHeader, kMeta, kSparseBlocks, kSparseText, kBegin, kData, kPadding, kEnd };

  const u8* take_block(span<const u8>& input);
  Error bad(const char* what) const;
  Status read_header(const u8* block);
  Status begin_meta(char kind, u64 size);
  Status end_meta();
  Status begin_entry(const u8* block, char kind, u64 size);
  Status set_names(const u8* block);
  Status set_attributes(const u8* block);
  Status begin_old_sparse(const u8* block);
  Status read_extents(const u8* at, size_t count);
  Status begin_pax_sparse();
  Status read_sparse_text(const u8* block);
  Status take_sparse_number(u64 number);
  Status check_extents() const;
  Status account(u64 bytes);
  bool take_data(span<const u8>& input);
  void reset_overrides();

  Limits limits_;
  State state_ = State::kHeader;
  u8 block_[kBlock] = {};
  size_t have_ = 0;  // bytes of an incomplete block

  char meta_kind_ = 0;  // 'x', 'g', 'L' or 'K'
  u64 meta_left_ = 0;
  String meta_;
  bool pending_ = false;  // overrides wait for their entry
  String long_name_;
  String long_link_;
  Pax global_;
  Pax pax_;  // global values and those for the next entry

  Entry entry_;
  bool discard_ = false;  // data of a type whose content has no meaning here
  u64 left_ = 0;          // stored bytes still to come
  u64 padding_ = 0;
  Vec<Extent> extents_;
  size_t extent_ = 0;
  u64 extent_done_ = 0;
  u64 sparse_number_ = 0;  // sparse 1.0: the decimal number under way
  bool sparse_digits_ = false;
  bool sparse_counted_ = false;
  u64 sparse_expected_ = 0;  // numbers still to come

  span<const u8> data_;
  u64 offset_ = 0;
  u64 extended_ = 0;  // extended headers so far
  u64 entries_ = 0;
  u64 bytes_ = 0;
};

}  // namespace caisson::tar
