// The tar reader: formats, bounds, and that the size of the pieces it is fed changes nothing.
#include "check.h"
#include "core/unpack/tar_reader.h"
#include "tar_builder.h"

using namespace caisson;
using caisson::test::TarBuilder;
using tar::Reader;

namespace {

// All that a reader says of an archive, as text: what is compared between feedings.
struct Told {
  String text;
  Error error;
};

Told tell(span<const u8> bytes, size_t step, const tar::Limits& limits = {}) {
  Told told;
  Reader reader(limits);
  u64 data_end = 0;
  auto fail = [&](const Error& error) {
    told.error = error;
    told.text.append("! ").append(error.call).append(" ").append(error.object).append('\n');
  };
  while (true) {
    span<const u8> piece = bytes.first(bytes.size() < step ? bytes.size() : step);
    bytes = bytes.subspan(piece.size());
    while (true) {
      Result<Reader::Event> event = reader.next(piece);
      if (!event) {
        fail(event.error());
        return told;
      }
      if (*event == Reader::Event::kMore) break;
      if (*event == Reader::Event::kEntry) {
        const tar::Entry& e = reader.entry();
        told.text.append("entry ").append_u64(static_cast<u64>(e.type)).append(' ').append(e.path).append(" -> ");
        told.text.append(e.link).append(" mode ").append_u64(e.mode).append(" uid ").append_u64(e.uid);
        told.text.append(" gid ").append_u64(e.gid).append(" mtime ").append_i64(e.mtime).append('.');
        told.text.append_u64(e.mtime_nsec).append(" dev ").append_u64(e.dev_major).append(':');
        told.text.append_u64(e.dev_minor).append(" size ").append_u64(e.size);
        for (const tar::Xattr& x : e.xattrs) told.text.append(" ").append(x.name).append("=").append(x.value);
        data_end = ~u64{0};
      } else if (*event == Reader::Event::kData) {
        if (reader.offset() != data_end) told.text.append("\n@").append_u64(reader.offset()).append(' ');
        told.text.append(string_view(reinterpret_cast<const char*>(reader.data().data()), reader.data().size()));
        data_end = reader.offset() + reader.data().size();
      } else {
        told.text.append('\n');
      }
    }
    if (bytes.empty()) break;
  }
  Status end = reader.finish();
  if (!end) fail(end.error());
  return told;
}

// Whole, byte by byte, and in odd pieces.
Told tell_all(span<const u8> bytes, const tar::Limits& limits = {}) {
  Told whole = tell(bytes, SIZE_MAX, limits);
  for (size_t step : {size_t{1}, size_t{7}, size_t{511}, size_t{513}, size_t{1000}}) {
    Told pieces = tell(bytes, step, limits);
    CHECK(pieces.text.view() == whole.text.view());
    CHECK(pieces.error.err == whole.error.err);
  }
  return whole;
}

bool has(const Told& told, string_view text) { return told.text.view().find(text) != string_view::npos; }

void test_formats() {
  TarBuilder b;
  b.add({.name = "dir/", .type = '5', .mode = 0755});
  b.add({.name = "file", .mode = 04755, .uid = 1000, .gid = 100}, "hello");
  b.add({.name = "tail", .prefix = "very/long/prefix"}, "x");
  b.add({.name = "link", .type = '2', .link = "../target"});
  b.add({.name = "hard", .type = '1', .size = 5, .link = "file"});  // the size of a link is no data
  b.add({.name = "null", .type = '3', .mode = 0666, .dev_major = 1, .dev_minor = 3});
  b.add({.name = "v7dir/", .type = '\0', .magic = {}});
  b.add({.name = "v7file", .type = '\0', .magic = {}}, "v7");
  b.end();
  Told told = tell_all(b.bytes());
  CHECK(told.error.err == 0);
  CHECK(has(told, "entry 5 dir/ ->  mode 493"));
  CHECK(has(told, "entry 0 file ->  mode 2541 uid 1000 gid 100 mtime 1000000000.0 dev 0:0 size 5\n@0 hello\n"));
  CHECK(has(told, "entry 0 very/long/prefix/tail"));
  CHECK(has(told, "entry 2 link -> ../target"));
  CHECK(has(told, "entry 1 hard -> file"));
  CHECK(has(told, "entry 3 null ->  mode 438 uid 0 gid 0 mtime 1000000000.0 dev 1:3"));
  CHECK(has(told, "entry 5 v7dir/"));
  CHECK(has(told, "entry 0 v7file"));
}

void test_long_names() {
  String name;
  for (int i = 0; i < 40; ++i) name.append("component/");
  name.append("leaf");
  TarBuilder b;
  String with_nul(name.view());
  with_nul.append('\0');
  b.add({.name = "././@LongLink", .type = 'L', .magic = "ustar  "}, with_nul);
  b.add({.name = "././@LongLink", .type = 'K', .magic = "ustar  "}, with_nul);
  b.add({.name = "component/compo", .type = '2', .link = "component/comp", .magic = "ustar  "});
  b.add({.name = "short", .magic = "ustar  "}, "s");
  b.end();
  Told told = tell_all(b.bytes());
  CHECK(told.error.err == 0);
  String line("entry 2 ");
  line.append(name).append(" -> ").append(name).append(" mode");
  CHECK(has(told, line));
  CHECK(has(told, "entry 0 short -> "));
}

void test_pax() {
  TarBuilder b;
  String global;
  TarBuilder::record(global, "mtime", "7");
  TarBuilder::record(global, "comment", "0123");
  b.pax(global, 'g');
  String own;
  TarBuilder::record(own, "path", "long/name");
  TarBuilder::record(own, "uid", "3000000");
  TarBuilder::record(own, "gid", "4294967294");
  TarBuilder::record(own, "mtime", "-1.25");
  TarBuilder::record(own, "size", "3");
  TarBuilder::record(own, "SCHILY.xattr.user.key", string_view("a=b\nc", 5));
  b.pax(own);
  u8 block[tar::kBlock];
  TarBuilder::header_block({.name = "short"}, block);  // size 0: the record's counts
  TarBuilder::seal(block);
  b.raw(block).content("abc");
  b.add({.name = "next"}, "n");
  b.end();
  Told told = tell_all(b.bytes());
  CHECK(told.error.err == 0);
  CHECK(has(told,
            "entry 0 long/name ->  mode 420 uid 3000000 gid 4294967294 mtime -2.750000000 dev 0:0 size 3 "
            "user.key=a=b\nc\n@0 abc\n"));
  CHECK(has(told, "entry 0 next ->  mode 420 uid 0 gid 0 mtime 7.0"));

  auto refused = [](string_view records, int err, char type = 'x') {
    TarBuilder bad;
    bad.pax(records, type).add({.name = "f"}).end();
    return tell_all(bad.bytes()).error.err == err;
  };
  CHECK(refused("9 path=ab", EBADMSG));     // no newline
  CHECK(refused("99 path=ab\n", EBADMSG));  // longer than the header
  CHECK(refused("5 path\n", EBADMSG));
  CHECK(refused("6 =abc\n", EBADMSG));
  CHECK(refused("99999999999999999999999 a=b\n", EBADMSG));
  CHECK(refused(string_view("10 path=\0a\n", 11), EBADMSG));
  CHECK(refused("12 uid=-100\n", EBADMSG));
  CHECK(refused("18 uid=4294967295\n", EBADMSG));  // (uid_t)-1
  CHECK(refused("14 mtime=1.2x\n", EBADMSG));
  CHECK(refused("13 size=1e10\n", EBADMSG));
  CHECK(refused("24 SCHILY.xattr.user.a=b\n", EBADMSG));  // length off by one
  CHECK(refused("25 SCHILY.xattr.user.a=b\n", EBADMSG, 'g'));
  CHECK(refused("25 GNU.sparse.offset=100\n", EBADMSG));  // without numbytes
}

void test_numbers() {
  TarBuilder b;
  u8 block[tar::kBlock];
  TarBuilder::header_block({.name = "big"}, block);
  TarBuilder::base256(block, tar::kUid, 3'000'000'000);
  TarBuilder::base256(block, tar::kGid, 1 << 21);
  TarBuilder::base256(block, tar::kMtime, -5);
  TarBuilder::seal(block);
  b.raw(block).end();
  Told told = tell_all(b.bytes());
  CHECK(has(told, "uid 3000000000 gid 2097152 mtime -5.0"));

  auto refused = [](auto spoil) {
    u8 bad_block[tar::kBlock];
    TarBuilder::header_block({.name = "bad"}, bad_block);
    spoil(bad_block);
    TarBuilder::seal(bad_block);
    TarBuilder bad;
    bad.raw(bad_block).end();
    return tell_all(bad.bytes()).error.err == EBADMSG;
  };
  CHECK(!refused([](u8*) {}));
  CHECK(refused([](u8* at) { TarBuilder::base256(at, tar::kUid, -1); }));
  CHECK(refused([](u8* at) { TarBuilder::base256(at, tar::kSize, -1); }));
  CHECK(refused([](u8* at) { memset(at + tar::kSize.at, 0xff, 1), memset(at + tar::kSize.at + 1, 0x7f, 11); }));
  CHECK(refused([](u8* at) { memset(at + tar::kSize.at, 0x80, 1), memset(at + tar::kSize.at + 1, 0x7f, 11); }));
  CHECK(refused([](u8* at) { memcpy(at + tar::kMode.at, "12x4567", 7); }));
  CHECK(refused([](u8* at) { at[0] = 0; }));  // no name

  // a signed sum of bytes, as some old writers made it
  TarBuilder::header_block({.name = "\xe9t\xe9"}, block);
  memset(block + tar::kChecksum.at, ' ', tar::kChecksum.width);
  i32 sum = 0;
  for (u8 byte : block) sum += static_cast<signed char>(byte);
  snprintf(reinterpret_cast<char*>(block + tar::kChecksum.at), 8, "%06o", static_cast<unsigned>(sum));
  TarBuilder signed_sum;
  signed_sum.raw(block).end();
  CHECK(tell_all(signed_sum.bytes()).error.err == 0);
}

void test_sparse() {
  // old GNU: six extents, two of them in an extension block
  TarBuilder b;
  u8 block[tar::kBlock];
  TarBuilder::header_block({.name = "old", .type = 'S', .size = 6 * 512, .magic = "ustar  "}, block);
  auto extent = [](u8* at, u64 offset, u64 size) {
    TarBuilder::octal(at, {0, 12}, offset);
    TarBuilder::octal(at, {12, 12}, size);
  };
  for (u64 i = 0; i < 4; ++i) extent(block + tar::kSparseAt + 24 * i, i * 4096, 512);
  block[tar::kSparseMoreAt] = 1;
  TarBuilder::octal(block, tar::kSparseRealSize, 1 << 20);
  TarBuilder::seal(block);
  b.raw(block);
  u8 more[tar::kBlock] = {};
  extent(more, 4 * 4096, 512);
  extent(more + 24, 5 * 4096, 512);
  b.raw(more);
  String content;
  for (char c : string_view("abcdef")) {
    for (int i = 0; i < 512; ++i) content.append(c);
  }
  b.content(content);

  // PAX 0.0, 0.1 and 1.0: "ab" at 10, "cd" at 100, size 200
  String records;
  TarBuilder::record(records, "GNU.sparse.size", "200");
  TarBuilder::record(records, "GNU.sparse.numblocks", "2");
  TarBuilder::record(records, "GNU.sparse.offset", "10");
  TarBuilder::record(records, "GNU.sparse.numbytes", "2");
  TarBuilder::record(records, "GNU.sparse.offset", "100");
  TarBuilder::record(records, "GNU.sparse.numbytes", "2");
  b.pax(records).add({.name = "v00"}, "abcd");
  records.clear();
  TarBuilder::record(records, "GNU.sparse.name", "v01");
  TarBuilder::record(records, "GNU.sparse.size", "200");
  TarBuilder::record(records, "GNU.sparse.map", "10,2,100,2,200,0");
  TarBuilder::record(records, "path", "GNUSparseFile.1/v01");
  b.pax(records).add({.name = "GNUSparseFile.1/v01"}, "abcd");
  records.clear();
  TarBuilder::record(records, "GNU.sparse.major", "1");
  TarBuilder::record(records, "GNU.sparse.minor", "0");
  TarBuilder::record(records, "GNU.sparse.name", "v10");
  TarBuilder::record(records, "GNU.sparse.realsize", "200");
  String map("2\n10\n2\n100\n2\n");
  while (map.size() != 512) map.append('\0');
  map.append("abcd");
  b.pax(records).add({.name = "GNUSparseFile.1/v10"}, map);
  b.add({.name = "after"}, "plain").end();

  Told told = tell_all(b.bytes());
  CHECK(told.error.err == 0);
  CHECK(has(told, "entry 0 old ->  mode 420 uid 0 gid 0 mtime 1000000000.0 dev 0:0 size 1048576\n@0 aaaa"));
  CHECK(has(told, "\n@20480 ffff"));
  for (string_view name : {"v00", "v01", "v10"}) {
    String line("entry 0 ");
    line.append(name).append(" ->  mode 420 uid 0 gid 0 mtime 1000000000.0 dev 0:0 size 200\n@10 ab\n@100 cd\n");
    CHECK(has(told, line));
  }
  CHECK(has(told, "size 5\n@0 plain\n"));

  auto refused = [](string_view sparse_map, string_view size) {
    String bad;
    TarBuilder::record(bad, "GNU.sparse.size", size);
    TarBuilder::record(bad, "GNU.sparse.map", sparse_map);
    TarBuilder bad_tar;
    bad_tar.pax(bad).add({.name = "f"}, "abcd").end();
    return tell_all(bad_tar.bytes()).error.err == EBADMSG;
  };
  CHECK(!refused("0,4", "4"));
  CHECK(refused("0,4", "3"));          // beyond the file
  CHECK(refused("10,2,5,2", "200"));   // descending
  CHECK(refused("10,2,11,2", "200"));  // overlapping
  CHECK(refused("0,3", "200"));        // less than stored
  CHECK(refused("0,5", "200"));        // more than stored
  CHECK(refused("9223372036854775807,4", "200"));
  CHECK(refused("0,4,", "200"));
  CHECK(refused("0", "200"));
}

void test_end() {
  TarBuilder b;
  b.add({.name = "etc/passwd"}, "root");
  span<const u8> whole = b.bytes();
  CHECK(tell_all({}).error.err == 0);
  CHECK(tell_all(whole).error.err == 0);  // GNU tar takes the end of the stream for the end of the archive
  for (size_t cut : {size_t{1}, size_t{511}, size_t{512}, size_t{514}, size_t{515}}) {
    Told told = tell_all(whole.first(cut));
    CHECK(told.error.err == EBADMSG);
    CHECK(cut < 512 ? has(told, "start of the archive") : has(told, "etc/passwd"));
  }
  TarBuilder trailing;
  trailing.add({.name = "a"}, "1").end().content("what follows the end is not looked at");
  CHECK(tell_all(trailing.bytes()).error.err == 0);
  TarBuilder lone;
  u8 zero[tar::kBlock] = {};
  lone.add({.name = "a"}, "1").raw(zero).add({.name = "hidden"});
  CHECK(!has(tell_all(lone.bytes()), "hidden"));
  TarBuilder headless;
  headless.pax("path", "nowhere");
  CHECK(tell_all(headless.bytes()).error.err == EBADMSG);
  headless.end();
  CHECK(tell_all(headless.bytes()).error.err == EBADMSG);
  TarBuilder unfilled;
  unfilled.add({.name = "whole"}, "12345");
  CHECK(tell_all(unfilled.bytes().first(517)).error.err == 0);
  CHECK(tell_all(unfilled.bytes().first(600)).error.err == 0);
  CHECK(tell_all(unfilled.bytes().first(516)).error.err == EBADMSG);
  TarBuilder unfilled_meta;
  unfilled_meta.pax("path", "nowhere");
  CHECK(tell_all(unfilled_meta.bytes().first(unfilled_meta.bytes().size() - 1)).error.err == EBADMSG);
  TarBuilder garbage;
  garbage.add({.name = "a"}, "1").content("this is no header at all");
  CHECK(has(tell_all(garbage.bytes()), "checksum"));
}

void test_bounds() {
  tar::Limits limits;
  limits.max_name = 10;
  TarBuilder name;
  name.pax("path", "01234567890").add({.name = "f"}).end();
  CHECK(tell_all(name.bytes(), limits).error.err == ENAMETOOLONG);
  TarBuilder gnu_name;
  gnu_name.add({.name = "@LongLink", .type = 'L'}, "012345678901").add({.name = "f"}).end();
  CHECK(tell_all(gnu_name.bytes(), limits).error.err == ENAMETOOLONG);

  limits = {};
  limits.max_pax = 16;
  CHECK(tell_all(name.bytes(), limits).error.err == E2BIG);

  limits = {};
  limits.max_entries = 2;
  TarBuilder three;
  three.add({.name = "a"}).add({.name = "b"});
  CHECK(tell_all(three.bytes(), limits).error.err == 0);
  three.add({.name = "c"});
  CHECK(tell_all(three.bytes(), limits).error.err == E2BIG && has(tell_all(three.bytes(), limits), "entries at c"));
  TarBuilder empty_headers;
  for (int i = 0; i < 11; ++i) empty_headers.pax("");
  CHECK(tell_all(empty_headers.bytes(), limits).error.err == EBADMSG);  // cut short: no entry follows
  empty_headers.pax("");
  CHECK(tell_all(empty_headers.bytes(), limits).error.err == E2BIG);

  limits = {};
  limits.max_bytes = 8;
  TarBuilder bytes;
  bytes.add({.name = "a"}, "12345678");
  CHECK(tell_all(bytes.bytes(), limits).error.err == 0);
  bytes.add({.name = "b"}, "9");
  Told told = tell_all(bytes.bytes(), limits);
  CHECK(told.error.err == EFBIG && has(told, "limit at b"));

  limits = {};
  limits.max_xattrs = 1;
  String two;
  TarBuilder::record(two, "SCHILY.xattr.user.a", "1");
  TarBuilder::record(two, "SCHILY.xattr.user.b", "2");
  TarBuilder xattrs;
  xattrs.pax(two).add({.name = "f"}).end();
  CHECK(tell_all(xattrs.bytes(), limits).error.err == E2BIG);
  limits = {};
  limits.max_xattr_value = 0;
  CHECK(tell_all(xattrs.bytes(), limits).error.err == E2BIG);

  limits = {};
  limits.max_extents = 1;
  String map;
  TarBuilder::record(map, "GNU.sparse.size", "9");
  TarBuilder::record(map, "GNU.sparse.map", "0,1,2,1");
  TarBuilder sparse;
  sparse.pax(map).add({.name = "f"}, "ab").end();
  CHECK(tell_all(sparse.bytes(), limits).error.err == E2BIG);

  TarBuilder odd;
  odd.add({.name = "multi-volume", .type = 'M'}).end();
  Told refused = tell_all(odd.bytes());
  CHECK(refused.error.err == ENOTSUP && has(refused, "multi-volume"));
}

}  // namespace

int main() {
  test_formats();
  test_long_names();
  test_pax();
  test_numbers();
  test_sparse();
  test_end();
  test_bounds();
  return caisson::test::done();
}
