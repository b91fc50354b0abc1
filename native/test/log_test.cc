// The CRI log: format, splitting at 16 KiB, what waits for its newline, reopening, hostile paths, a full disk.
#include "monitor/log.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "test/check.h"

using namespace caisson;
using namespace caisson::monitor;

namespace {

constexpr caisson::i64 kTime = 1'767'323'045'000'000'006;  // 2026-01-02T03:04:05.000000006Z
#define STAMP "2026-01-02T03:04:05.000000006Z"

struct Directory {
  char path[32] = "/tmp/caisson-log-XXXXXX";
  Fd fd;
  Directory() {
    CHECK(mkdtemp(path) != nullptr);
    fd.reset(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~Directory() {
    for (const char* name : {"log", "old", "link", "fifo", "sub/log"}) unlinkat(fd.get(), name, 0);
    unlinkat(fd.get(), "sub", AT_REMOVEDIR);
    CHECK(rmdir(path) == 0);
  }
  String read(const char* name) {
    String text;
    Fd file(openat(fd.get(), name, O_RDONLY | O_CLOEXEC));
    char chunk[4096];
    ssize_t n;
    while (file && (n = ::read(file.get(), chunk, sizeof chunk)) > 0)
      text.append(string_view(chunk, static_cast<size_t>(n)));
    return text;
  }
  bool has(const char* name) {
    struct stat st;
    return fstatat(fd.get(), name, &st, AT_SYMLINK_NOFOLLOW) == 0;
  }
};

String repeat(char c, size_t n) {
  String s;
  while (n-- != 0) s.append(c);
  return s;
}

void formats_time() {
  char out[kTimestampSize];
  auto text = [&](caisson::i64 t) {
    format_timestamp(t, out);
    return string_view(out, sizeof out);
  };
  CHECK(text(kTime) == STAMP);
  CHECK(text(0) == "1970-01-01T00:00:00.000000000Z");
  CHECK(text(951'782'400'999'999'999) == "2000-02-29T00:00:00.999999999Z");
  CHECK(text(4'107'542'399'000'000'000) == "2100-02-28T23:59:59.000000000Z");
  CHECK(text(4'107'542'400'000'000'000) == "2100-03-01T00:00:00.000000000Z");
  CHECK(text(1'735'689'599'000'000'000) == "2024-12-31T23:59:59.000000000Z");
}

void formats_lines() {
  Directory dir;
  LogFile file;
  CHECK(file.open(dir.fd.get(), "log"));
  struct stat st;
  CHECK(fstatat(dir.fd.get(), "log", &st, 0) == 0 && (st.st_mode & 07777) == 0640);
  LogStream out("stdout"), err("stderr");
  out.feed(file, "one\ntwo\n\n", kTime);
  err.feed(file, "oh\n", kTime);
  CHECK(dir.read("log").view() == STAMP " stdout F one\n" STAMP " stdout F two\n" STAMP " stdout F \n" STAMP
                                        " stderr F oh\n");
}

void waits_for_the_newline() {
  Directory dir;
  LogFile file;
  CHECK(file.open(dir.fd.get(), "log"));
  LogStream out("stdout");
  out.feed(file, "a", kTime);
  out.feed(file, "b", kTime);
  CHECK(dir.read("log").empty());
  CHECK(out.pending() == "ab");
  out.feed(file, "c\nd", kTime);
  CHECK(dir.read("log").view() == STAMP " stdout F abc\n");
  out.finish(file, kTime);
  CHECK(dir.read("log").view() == STAMP " stdout F abc\n" STAMP " stdout P d\n");
  out.finish(file, kTime);
  CHECK(dir.read("log").view() == STAMP " stdout F abc\n" STAMP " stdout P d\n");
}

// A line of `size` bytes and its newline, fed in pieces: as many P records as it is too long, then one F.
void splits(size_t size, size_t piece) {
  Directory dir;
  LogFile file;
  CHECK(file.open(dir.fd.get(), "log"));
  LogStream out("stdout");
  String line = repeat('x', size);
  line.append('\n');
  for (size_t at = 0; at < line.size(); at += piece)
    out.feed(file, string_view(line.c_str() + at, line.size() - at < piece ? line.size() - at : piece), kTime);
  String expected;
  size_t left = size;
  for (; left > kLogLineMax; left -= kLogLineMax)
    expected.append(STAMP " stdout P ").append(repeat('x', kLogLineMax)).append('\n');
  expected.append(STAMP " stdout F ").append(repeat('x', left)).append('\n');
  CHECK(dir.read("log").view() == expected.view());
  CHECK(out.pending().empty());
}

void reopens() {
  Directory dir;
  LogFile file;
  CHECK(file.open(dir.fd.get(), "log"));
  LogStream out("stdout");
  out.feed(file, "before\nhalf", kTime);
  CHECK(renameat(dir.fd.get(), "log", dir.fd.get(), "old") == 0);
  CHECK(file.open(dir.fd.get(), "log"));
  out.feed(file, " line\n", kTime);
  CHECK(dir.read("old").view() == STAMP " stdout F before\n");
  CHECK(dir.read("log").view() == STAMP " stdout F half line\n");

  // An error leaves the old file in use and makes none.
  CHECK(!file.open(dir.fd.get(), "absent/log"));
  out.feed(file, "after\n", kTime);
  CHECK(dir.read("log").view() == STAMP " stdout F half line\n" STAMP " stdout F after\n");
  CHECK(!dir.has("absent"));

  CHECK(mkdirat(dir.fd.get(), "sub", 0755) == 0);
  CHECK(file.open(dir.fd.get(), "sub/log"));
  CHECK(dir.has("sub/log"));
}

void refuses_hostile_paths() {
  Directory dir;
  LogFile file;
  CHECK(symlinkat("/tmp/caisson-log-victim", dir.fd.get(), "link") == 0);
  auto linked = file.open(dir.fd.get(), "link");
  CHECK(!linked && linked.error().err == ELOOP);
  CHECK(access("/tmp/caisson-log-victim", F_OK) != 0);
  auto outside = file.open(dir.fd.get(), "../caisson-log-outside");
  CHECK(!outside && outside.error().err == EXDEV);
  CHECK(mkfifoat(dir.fd.get(), "fifo", 0600) == 0);
  auto fifo = file.open(dir.fd.get(), "fifo");  // and does not hang
  CHECK(!fifo && fifo.error().err == EINVAL);
  CHECK(!file.is_open());
}

// RLIMIT_FSIZE stands for the full disk: a write is cut short, then refused.
void survives_a_full_disk() {
  Directory dir;
  LogFile file;
  CHECK(file.open(dir.fd.get(), "log"));
  LogStream out("stdout");
  signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small{100, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  out.feed(file, "first\nsecond is cut in the middle by the limit of one hundred bytes\nthird\n", kTime);
  out.feed(file, "fourth\n", kTime);
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK(file.lost_records() >= 2);
  out.feed(file, "fifth\n", kTime);
  String text = dir.read("log");
  // No torn record: every line begins with a time stamp.
  size_t lines = 0;
  for (string_view rest = text; !rest.empty(); ++lines) {
    CHECK(rest.substr(0, sizeof STAMP - 1) == STAMP);
    rest.remove_prefix(rest.find('\n') + 1);
  }
  CHECK(lines + file.lost_records() == 5);
  CHECK(text.view().find("fifth") != string_view::npos);
}

void keeps_many_lines() {
  Directory dir;
  LogFile file;
  CHECK(file.open(dir.fd.get(), "log"));
  LogStream out("stdout");
  String burst;
  for (unsigned i = 0; i < 20'000; ++i) burst.append_u64(i).append('\n');
  out.feed(file, burst, kTime);
  String text = dir.read("log");
  unsigned next = 0;
  for (string_view rest = text; !rest.empty(); ++next) {
    String expected;
    expected.append(STAMP " stdout F ").append_u64(next).append('\n');
    if (rest.substr(0, expected.size()) != expected.view()) break;
    rest.remove_prefix(expected.size());
  }
  CHECK(next == 20'000);
}

}  // namespace

int main() {
  formats_time();
  formats_lines();
  waits_for_the_newline();
  for (size_t size : {size_t{0}, kLogLineMax - 1, kLogLineMax, kLogLineMax + 1, 2 * kLogLineMax, 100'000ul})
    for (size_t piece : {size_t{1000}, size_t{16384}, size_t{65536}}) splits(size, piece);
  reopens();
  refuses_hostile_paths();
  survives_a_full_disk();
  keeps_many_lines();
  return caisson::test::done();
}
