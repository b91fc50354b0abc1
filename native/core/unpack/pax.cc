#include "core/unpack/pax.h"

#include <limits.h>

namespace caisson::tar {
namespace {

Error malformed(string_view key) { return Error(EBADMSG, "read extended tar header: malformed record", key); }

// substr() without its exception, which would need libstdc++.
string_view after(string_view text, size_t n) {
  text.remove_prefix(n);
  return text;
}

bool take_digits(string_view& text, u64& value) {
  size_t n = 0;
  value = 0;
  for (; n < text.size() && text[n] >= '0' && text[n] <= '9'; ++n) {
    if (__builtin_mul_overflow(value, u64{10}, &value) ||
        __builtin_add_overflow(value, static_cast<u64>(text[n] - '0'), &value))
      return false;
  }
  text.remove_prefix(n);
  return n != 0;
}

// A whole decimal number up to `max`.
bool decimal(string_view text, u64 max, u64& value) { return take_digits(text, value) && text.empty() && value <= max; }

// [-]seconds[.fraction]; digits beyond nanoseconds are cut.
bool timestamp(string_view text, i64& seconds, u32& nanoseconds) {
  bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  u64 whole = 0;
  if (!take_digits(text, whole) || whole > static_cast<u64>(INT64_MAX) - 1) return false;
  u32 fraction = 0;
  if (!text.empty()) {
    if (text.front() != '.') return false;
    u32 scale = 100'000'000;
    text.remove_prefix(1);
    for (char c : text) {
      if (c < '0' || c > '9') return false;
      fraction += scale * static_cast<u32>(c - '0');
      scale /= 10;
    }
  }
  seconds = negative ? -static_cast<i64>(whole) : static_cast<i64>(whole);
  nanoseconds = fraction;
  if (negative && fraction != 0) {  // -1.25 is 0.75 after -2
    --seconds;
    nanoseconds = 1'000'000'000 - fraction;
  }
  return true;
}

Status set_name(string_view key, string_view value, const Limits& limits, String& out) {
  if (value.size() > limits.max_name) return Error(ENAMETOOLONG, "read extended tar header", key);
  // A name ends at NUL for the kernel, not for the archive: two readers would see two names.
  if (value.find('\0') != string_view::npos) return malformed(key);
  out.clear();
  out.append(value);
  return ok();
}

Status set_id(string_view key, string_view value, bool& has, u32& id) {
  u64 number = 0;
  has = !value.empty();
  if (!has) return ok();
  // (uid_t)-1 is "leave it" to chown(2), hence no id.
  if (!decimal(value, UINT32_MAX - 1, number)) return malformed(key);
  id = static_cast<u32>(number);
  return ok();
}

Status add_xattr(string_view name, string_view value, const Limits& limits, Pax& pax) {
  constexpr size_t kNameMax = 255;  // XATTR_NAME_MAX
  if (name.empty() || name.size() > kNameMax || name.find('\0') != string_view::npos) return malformed(name);
  if (value.size() > limits.max_xattr_value) return Error(E2BIG, "read extended attribute of tar entry", name);
  if (pax.xattrs.size() >= limits.max_xattrs)
    return Error(E2BIG, "read extended attributes of tar entry: too many", name);
  pax.xattrs.push(Xattr{String(name), String(value)});
  return ok();
}

Status add_extent(string_view key, u64 offset, u64 size, const Limits& limits, Pax& pax) {
  if (pax.extents.size() >= limits.max_extents)
    return Error(E2BIG, "read sparse map of tar entry: too many extents", key);
  pax.extents.push(Extent{offset, size});
  return ok();
}

Status set_sparse(string_view key, string_view value, const Limits& limits, Pax& pax) {
  constexpr u64 kSizeMax = INT64_MAX;
  string_view what = after(key, sizeof "GNU.sparse." - 1);
  u64 number = 0;
  pax.sparse = true;
  if (what == "name") return set_name(key, value, limits, pax.sparse_name);
  if (what == "map") {  // 0.1: offset,size,offset,size…
    pax.extents.clear();
    string_view rest = value;
    while (!rest.empty()) {
      u64 size = 0;
      if (!take_digits(rest, number) || number > kSizeMax || rest.empty() || rest.front() != ',') return malformed(key);
      rest.remove_prefix(1);
      if (!take_digits(rest, size) || size > kSizeMax) return malformed(key);
      if (!rest.empty()) {
        if (rest.front() != ',' || rest.size() == 1) return malformed(key);
        rest.remove_prefix(1);
      }
      CAISSON_TRY(add_extent(key, number, size, limits, pax));
    }
    return ok();
  }
  if (!decimal(value, kSizeMax, number)) return malformed(key);
  if (what == "major") {
    if (number > 1) return malformed(key);
    pax.sparse_major = static_cast<u32>(number);
  } else if (what == "minor") {
    if (number > 1) return malformed(key);
    pax.sparse_minor = static_cast<u32>(number);
  } else if (what == "size" || what == "realsize") {
    pax.has_sparse_size = true;
    pax.sparse_size = number;
  } else if (what == "offset") {
    if (pax.has_offset) return malformed(key);
    pax.has_offset = true;
    CAISSON_TRY(add_extent(key, number, 0, limits, pax));
  } else if (what == "numbytes") {
    if (!pax.has_offset) return malformed(key);
    pax.has_offset = false;
    pax.extents.back().size = number;
  } else if (what != "numblocks") {  // numblocks repeats what the records themselves show
    return malformed(key);
  }
  return ok();
}

Status set_record(string_view key, string_view value, const Limits& limits, bool global, Pax& pax) {
  constexpr string_view kXattr = "SCHILY.xattr.";
  constexpr string_view kSparse = "GNU.sparse.";
  if (key == "path") return set_name(key, value, limits, pax.path);
  if (key == "linkpath") return set_name(key, value, limits, pax.link);
  if (key == "uid") return set_id(key, value, pax.has_uid, pax.uid);
  if (key == "gid") return set_id(key, value, pax.has_gid, pax.gid);
  if (key == "size") {
    pax.has_size = !value.empty();
    if (pax.has_size && !decimal(value, INT64_MAX, pax.size)) return malformed(key);
    return ok();
  }
  if (key == "mtime") {
    pax.has_mtime = !value.empty();
    if (pax.has_mtime && !timestamp(value, pax.mtime, pax.mtime_nsec)) return malformed(key);
    return ok();
  }
  bool xattr = key.starts_with(kXattr);
  bool sparse = key.starts_with(kSparse);
  if (global && (xattr || sparse)) return Error(EBADMSG, "read global tar header: not allowed there", key);
  if (xattr) return add_xattr(after(key, kXattr.size()), value, limits, pax);
  if (sparse) return set_sparse(key, value, limits, pax);
  return ok();  // atime, ctime, uname, comment…: POSIX has readers pass over what they have no use for
}

}  // namespace

void Pax::clear() {
  path.clear();
  link.clear();
  has_size = has_mtime = has_uid = has_gid = false;
  xattrs.clear();
  sparse = has_sparse_size = has_offset = false;
  sparse_major = sparse_minor = 0;
  sparse_name.clear();
  extents.clear();
}

void Pax::copy_plain_from(const Pax& other) {
  path.clear();
  path.append(other.path);
  link.clear();
  link.append(other.link);
  has_size = other.has_size;
  has_mtime = other.has_mtime;
  has_uid = other.has_uid;
  has_gid = other.has_gid;
  size = other.size;
  mtime = other.mtime;
  mtime_nsec = other.mtime_nsec;
  uid = other.uid;
  gid = other.gid;
}

Status parse_pax(string_view records, const Limits& limits, bool global, Pax& pax) {
  while (!records.empty()) {
    string_view rest = records;
    u64 length = 0;
    if (!take_digits(rest, length) || length > records.size() || rest.empty() || rest.front() != ' ')
      return malformed("length");
    size_t head = records.size() - rest.size() + 1;
    if (length < head + 2 || records[length - 1] != '\n') return malformed("length");
    string_view record(records.data() + head, length - head - 1);
    records.remove_prefix(length);
    size_t equals = record.find('=');
    if (equals == string_view::npos || equals == 0) return malformed(record);
    CAISSON_TRY(set_record(string_view(record.data(), equals), after(record, equals + 1), limits, global, pax));
  }
  if (pax.has_offset) return malformed("GNU.sparse.offset");
  return ok();
}

}  // namespace caisson::tar
