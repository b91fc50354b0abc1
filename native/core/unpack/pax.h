// PAX extended headers: records "LENGTH KEYWORD=VALUE\n" that override fields of the header which follows.
//
// Source: POSIX.1-2017 pax(1) "pax Extended Header"; GNU tar manual, "Storing Sparse Files"; star(5) for SCHILY.xattr.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::tar {

struct Limits {
  u32 max_name = 4096;              // bytes of a name or link target
  u32 max_pax = 1u << 20;           // bytes of one extended header
  u32 max_xattrs = 256;             // of one entry
  u32 max_xattr_value = 64u << 10;  // XATTR_SIZE_MAX of the kernel
  u32 max_extents = 256u << 10;     // of one sparse file: 4 MiB of memory
  u64 max_entries = 1u << 20;       // in one archive; four times as many extended headers
  u64 max_bytes = u64{64} << 30;    // content of files as stored, and of extended headers
};

struct Xattr {
  String name;
  String value;
};

// Data of a sparse file: [offset, offset + size) is stored, the rest is a hole.
struct Extent {
  u64 offset;
  u64 size;
};

// What extended headers say of an entry. Empty strings and cleared flags: nothing.
struct Pax {
  String path;
  String link;
  bool has_size = false;
  bool has_mtime = false;
  bool has_uid = false;
  bool has_gid = false;
  u64 size = 0;
  i64 mtime = 0;
  u32 mtime_nsec = 0;
  u32 uid = 0;
  u32 gid = 0;
  Vec<Xattr> xattrs;

  // GNU.sparse.*: formats 0.0 and 0.1 carry the map here, 1.0 in front of the data.
  bool sparse = false;
  u32 sparse_major = 0;
  u32 sparse_minor = 0;
  String sparse_name;  // wins over path, which holds a made-up name for readers that know nothing of sparse files
  bool has_sparse_size = false;
  u64 sparse_size = 0;
  bool has_offset = false;  // 0.0: an offset waits for its numbytes
  Vec<Extent> extents;

  void clear();
  void copy_plain_from(const Pax& other);  // all but xattrs and sparse, which a global header may not set
};

// Reads the records of one header into `pax`, over what is there; an empty value takes an override back.
// `global`: a 'g' header; xattrs and sparse maps in it are an error, since they would be stamped on every file.
// Error: EBADMSG for a malformed record, E2BIG and ENAMETOOLONG for a bound; the object is the keyword.
Status parse_pax(string_view records, const Limits& limits, bool global, Pax& pax);

}  // namespace caisson::tar
