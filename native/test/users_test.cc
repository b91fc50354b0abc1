// Ids, passwd and group lines, and the bounds of the reader.
#include "core/stage/users.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/text.h"
#include "test/check.h"

using namespace caisson;

namespace {

void ids() {
  struct Case {
    string_view text;
    IdText form;
    u32 id;
  };
  constexpr Case kCases[] = {
      {"0", IdText::kNumber, 0},
      {"1", IdText::kNumber, 1},
      {"0042", IdText::kNumber, 42},
      {"2147483648", IdText::kNumber, 2147483648u},
      {"4294967294", IdText::kNumber, 4294967294u},
      {"4294967295", IdText::kInvalid, 0},
      {"4294967296", IdText::kInvalid, 0},
      {"18446744073709551616", IdText::kInvalid, 0},  // 2^64
      {"99999999999999999999999999", IdText::kInvalid, 0},
      {"", IdText::kInvalid, 0},
      {"-1", IdText::kName, 0},
      {" 1", IdText::kName, 0},
      {"1 ", IdText::kName, 0},
      {"0x0", IdText::kName, 0},
      {"+1", IdText::kName, 0},
      {"root", IdText::kName, 0},
  };
  for (const Case& c : kCases) {
    u32 id = 0;
    CHECK(parse_id(c.text, id) == c.form);
    if (c.form == IdText::kNumber) CHECK(id == c.id);
  }
}

void lines() {
  PasswdEntry p;
  CHECK(parse_passwd("web:x:1000:1001:Web,,,:/home/web:/bin/sh", p));
  CHECK(p.name == "web" && p.uid == 1000 && p.gid == 1001 && p.home == "/home/web");
  CHECK(!parse_passwd("web:x::1001::/:", p));
  CHECK(!parse_passwd(":x:0:0::/:", p));
  CHECK(!parse_passwd("# comment", p));
  CHECK(!parse_passwd("big:x:4294967296:0::/:", p));
  GroupEntry g;
  CHECK(parse_group("wheel:x:10:a,bob,c", g) && g.gid == 10);
  CHECK(has_member(g, "a") && has_member(g, "bob") && has_member(g, "c"));
  CHECK(!has_member(g, "bo") && !has_member(g, "") && !has_member(g, "bobc"));
  CHECK(parse_group("empty:x:11:", g) && !has_member(g, "a"));
}

int file_of(size_t size, char fill) {
  int fd = memfd_create("table", MFD_CLOEXEC);
  Vec<char> bytes;
  for (size_t i = 0; i < size; ++i) bytes.push(fill);
  if (write(fd, bytes.data(), size) != static_cast<ssize_t>(size)) abort();
  lseek(fd, 0, SEEK_SET);
  return fd;
}

u32 count_lines(int fd, int& error) {
  LineReader reader(fd);
  string_view line;
  u32 n = 0;
  while (reader.next(line)) ++n;
  error = reader.error();
  close(fd);
  return n;
}

void bounds() {
  int error = 0;
  CHECK(count_lines(file_of(0, 0), error) == 0 && error == 0);
  CHECK(count_lines(file_of(10, '\n'), error) == 10 && error == 0);
  CHECK(count_lines(file_of(LineReader::kLineMax - 1, 'a'), error) == 1 && error == 0);  // no newline at the end
  CHECK(count_lines(file_of(LineReader::kLineMax + 1, 'a'), error) == 0 && error == E2BIG);
  CHECK(count_lines(file_of(LineReader::kFileMax, '\n'), error) == LineReader::kFileMax && error == 0);
  count_lines(file_of(4 * LineReader::kFileMax, '\n'), error);
  CHECK(error == E2BIG);
}

}  // namespace

int main() {
  ids();
  lines();
  bounds();
  return test::done();
}
