#include "core/pack/tar_writer.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "core/unpack/tar_format.h"

namespace caisson::tar {

namespace {

constexpr u64 kOctal7 = (u64{1} << 21) - 1;
constexpr u64 kOctal11 = (u64{1} << 33) - 1;

void put_text(u8* block, Field field, string_view text) {
  const size_t n = text.size() < field.width ? text.size() : field.width;
  if (n != 0) memcpy(block + field.at, text.data(), n);
}

// As many octal digits as the field holds before its NUL. What does not fit is in a PAX record.
void put_octal(u8* block, Field field, u64 value) {
  size_t at = field.width - 1;
  while (at != 0) {
    block[field.at + --at] = static_cast<u8>('0' + (value & 7));
    value >>= 3;
  }
}

size_t digits(u64 value) {
  size_t n = 1;
  while (value >= 10) {
    value /= 10;
    ++n;
  }
  return n;
}

bool whole_seconds(const timespec& time) {
  return time.tv_nsec == 0 && time.tv_sec >= 0 && static_cast<u64>(time.tv_sec) <= kOctal11;
}

// "1700000000.000000001"; before 1970 the fraction counts downwards.
void append_time(String& text, const timespec& time) {
  i64 seconds = time.tv_sec;
  u64 fraction = static_cast<u64>(time.tv_nsec);
  if (seconds < 0) {
    text.append('-');
    if (fraction != 0) {
      ++seconds;
      fraction = 1'000'000'000 - fraction;
    }
    seconds = -seconds;
  }
  text.append_u64(static_cast<u64>(seconds));
  if (fraction == 0) return;
  text.append('.');
  for (size_t i = digits(fraction); i < 9; ++i) text.append('0');
  text.append_u64(fraction);
}

string_view last_component(string_view path) {
  size_t end = path.size();
  while (end != 0 && path[end - 1] == '/') --end;
  size_t begin = end;
  while (begin != 0 && path[begin - 1] != '/') --begin;
  return part(path, begin, end - begin);
}

}  // namespace

void PaxRecords::add(string_view key, string_view value) {
  const size_t rest = 1 + key.size() + 1 + value.size() + 1;
  size_t length = rest + digits(rest);
  if (digits(length) != digits(rest)) length = rest + digits(length);
  text_.append_u64(length).append(' ').append(key).append('=').append(value).append('\n');
}

void PaxRecords::add(string_view key, u64 value) {
  String text;
  text.append_u64(value);
  add(key, text.view());
}

Status Writer::entry(string_view path, char type, string_view link, const struct stat& st, u64 size,
                     PaxRecords& records) {
  if (path.size() > kName.width) records.add("path", path);
  if (link.size() > kLinkName.width) records.add("linkpath", link);
  if (size > kOctal11) records.add("size", size);
  if (st.st_uid > kOctal7) records.add("uid", u64{st.st_uid});
  if (st.st_gid > kOctal7) records.add("gid", u64{st.st_gid});
  if (!whole_seconds(st.st_mtim)) {
    String time;
    append_time(time, st.st_mtim);
    records.add("mtime", time.view());
  }
  if (!records.empty()) CAISSON_TRY(extended(path, records));
  return header(path, type, link, st, size);
}

Status Writer::sparse_entry(string_view path, const struct stat& st, span<const Extent> extents, PaxRecords& records) {
  String map;
  map.append_u64(extents.size()).append('\n');
  u64 stored = 0;
  for (const Extent& extent : extents) {
    map.append_u64(extent.offset).append('\n').append_u64(extent.size).append('\n');
    stored += extent.size;
  }
  while (map.size() % kBlock != 0) map.append('\0');
  records.add("GNU.sparse.major", u64{1});
  records.add("GNU.sparse.minor", u64{0});
  records.add("GNU.sparse.name", path);
  records.add("GNU.sparse.realsize", static_cast<u64>(st.st_size));
  // readers that know no sparse files find it under another name
  String name;
  name.append("GNUSparseFile.0/").append(part(last_component(path), 0, 80));
  CAISSON_TRY(entry(name.view(), '0', {}, st, map.size() + stored, records));
  return data({reinterpret_cast<const u8*>(map.c_str()), map.size()});
}

Status Writer::extended(string_view path, PaxRecords& records) {
  struct stat st = {};
  st.st_mode = 0644;
  String name;
  name.append("PaxHeaders.0/").append(part(last_component(path), 0, 80));
  CAISSON_TRY(header(name.view(), 'x', {}, st, records.text().size()));
  CAISSON_TRY(data({reinterpret_cast<const u8*>(records.text().data()), records.text().size()}));
  records.clear();
  return pad();
}

Status Writer::header(string_view path, char type, string_view link, const struct stat& st, u64 size) {
  u8 block[kBlock] = {};
  put_text(block, kName, path);
  put_octal(block, kMode, st.st_mode & 07777);
  put_octal(block, kUid, st.st_uid > kOctal7 ? 0 : st.st_uid);
  put_octal(block, kGid, st.st_gid > kOctal7 ? 0 : st.st_gid);
  put_octal(block, kSize, size > kOctal11 ? 0 : size);
  const bool fits = st.st_mtim.tv_sec >= 0 && static_cast<u64>(st.st_mtim.tv_sec) <= kOctal11;
  put_octal(block, kMtime, fits ? static_cast<u64>(st.st_mtim.tv_sec) : 0);
  block[kTypeAt] = static_cast<u8>(type);
  put_text(block, kLinkName, link);
  put_text(block, kMagic, string_view("ustar\00000", 8));
  if (type == '3' || type == '4') {
    put_octal(block, kDevMajor, major(st.st_rdev));
    put_octal(block, kDevMinor, minor(st.st_rdev));
  }
  u64 sum = kChecksum.width * ' ';
  for (const u8 byte : block) sum += byte;
  put_octal(block, {kChecksum.at, 7}, sum);
  block[kChecksum.at + 7] = ' ';
  return data(block);
}

Status Writer::data(span<const u8> bytes) {
  written_ += bytes.size();
  return sink_.write(bytes);
}

Status Writer::pad() {
  static constexpr u8 kZeros[kBlock] = {};
  const size_t over = written_ % kBlock;
  return over == 0 ? ok() : data({kZeros, kBlock - over});
}

Status Writer::finish() {
  static constexpr u8 kZeros[2 * kBlock] = {};
  return data(kZeros);
}

}  // namespace caisson::tar
