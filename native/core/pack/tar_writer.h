// A tar archive, entry by entry: ustar headers, and PAX records for what those cannot hold.
//
// Source: POSIX.1-2017 pax(1), "pax Interchange Format"; star's SCHILY.xattr records; GNU tar manual, "Storing Sparse
// Files", PAX format 1.0.
#pragma once

#include <sys/stat.h>

#include "core/base.h"
#include "core/byte_sink.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::tar {

// Records of an extended header; values may hold any bytes.
class PaxRecords {
 public:
  void add(string_view key, string_view value);
  void add(string_view key, u64 value);
  bool empty() const { return text_.empty(); }
  string_view text() const { return text_.view(); }
  void clear() { text_.clear(); }

 private:
  String text_;
};

struct Extent {
  u64 offset = 0;
  u64 size = 0;
};

class Writer {
 public:
  explicit Writer(ByteSink& sink) : sink_(sink) {}

  // The header of an entry that `st` tells of. `records`: what the caller adds; cleared afterwards.
  // `type`: '0' file, '1' hard link, '2' symbolic link, '3' and '4' devices, '5' directory, '6' fifo.
  // `size`: bytes of content that follow, then pad().
  Status entry(string_view path, char type, string_view link, const struct stat& st, u64 size, PaxRecords& records);
  // The header of a file with holes, and its map; the bytes of the extents follow, then pad().
  Status sparse_entry(string_view path, const struct stat& st, span<const Extent> extents, PaxRecords& records);
  Status data(span<const u8> bytes);
  // Zeros up to the next block.
  Status pad();
  // The end of the archive.
  Status finish();

 private:
  Status extended(string_view path, PaxRecords& records);
  Status header(string_view path, char type, string_view link, const struct stat& st, u64 size);

  ByteSink& sink_;
  u64 written_ = 0;
};

}  // namespace caisson::tar
