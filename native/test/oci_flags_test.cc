// What commands make of their flags: limits, durations, users, processes, descriptors.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <initializer_list>

#include "core/compile.h"
#include "oci/duration.h"
#include "oci/exec_process.h"
#include "oci/preserve.h"
#include "oci/update_flags.h"
#include "test/check.h"

using namespace caisson;
using namespace caisson::oci;

namespace {

bool says(Fault& fault, string_view text) { return fault.text.view().find(text) != string_view::npos; }

void reads_bytes() {
  struct {
    string_view text;
    i64 bytes;
  } good[] = {{"0", 0},       {"1024", 1024},      {"1k", 1024},         {"2K", 2048},        {"3kb", 3072},
              {"1KiB", 1024}, {"512m", 512 << 20}, {"1.5g", 3 << 29},    {"1G", 1 << 30},     {"1 M", 1 << 20},
              {"7b", 7},      {"0.5k", 512},       {"1t", i64{1} << 40}, {"1p", i64{1} << 50}};
  for (const auto& each : good) {
    i64 bytes = -5;
    CHECK(parse_bytes(each.text, bytes) && bytes == each.bytes);
  }
  i64 bytes = -5;
  for (string_view bad : {"", "m", "-1m", "1x", "1mm", "1..5m", "1.m", "1.2345m", "9223372036854775808",
                          "9007199254740992k", "1m ", "0x10"})
    CHECK(!parse_bytes(bad, bytes));
}

void writes_resources() {
  auto resources = [](std::initializer_list<const char*> args) {
    return resources_of(Options::parse({args.begin(), args.size()}, kUpdateFlags, FlagOrder::kAnywhere).take());
  };
  CHECK(resources({})->view() == "{}");
  CHECK(resources({"--memory", "1m", "--memory-swap=-1", "--cpu-quota", "-1", "--cpu-period=1000", "--cpuset-cpus",
                   "0-1", "--blkio-weight=10", "--pids-limit", "-1"})
            ->view() ==
        "{\"memory\":{\"limit\":1048576,\"swap\":-1},\"cpu\":{\"quota\":-1,\"period\":1000,\"cpus\":\"0-1\"},"
        "\"blockIO\":{\"weight\":10},\"pids\":{\"limit\":-1}}");
  for (const char* bad : {"--memory=x", "--cpu-share=1k", "--cpu-idle=yes"}) {
    auto refused = resources({bad});
    CHECK(!refused && says(refused.error(), "invalid value for"));
  }
}

void reads_durations() {
  struct {
    string_view text;
    int ms;
  } good[] = {{"0", 0},       {"5s", 5000}, {"1m30s", 90'000}, {"100ms", 100},           {"1.5h", 5'400'000},
              {"-1s", -1000}, {".5s", 500}, {"999us", 0},      {"1h0m0.001s", 3'600'001}};
  for (const auto& each : good) {
    int ms = -7;
    CHECK(parse_duration(each.text, ms) && ms == each.ms);
  }
  int ms = 0;
  for (string_view bad : {"", "5", "s", "5x", "1.s", "5s5", "-", "1000000h", "5 s", "9223372036854775807h"})
    CHECK(!parse_duration(bad, ms));
}

// CVE-2026-30892: what is no number must never become uid 0.
void reads_users() {
  auto plain = parse_user("1");
  CHECK(plain && plain->uid == 1 && !plain->has_gid);
  auto both = parse_user("12:34");
  CHECK(both && both->uid == 12 && both->gid == 34 && both->has_gid);
  CHECK(parse_user("4294967294"));
  for (string_view bad : {"", ":", "1:", ":1", "-1", "1:-1", " 1", "1 ", "4294967295", "4294967296", "1:4294967295",
                          "0x1", "root", "1:2:3", "18446744073709551616", "+1"})
    CHECK(!parse_user(bad));
}

void writes_processes() {
  auto own = JsonDocument::parse(
      "{\"cwd\":\"/own\",\"args\":[\"x\"],\"env\":[\"A=1\"],\"terminal\":true,\"noNewPrivileges\":true,"
      "\"user\":{\"uid\":5,\"gid\":6,\"additionalGids\":[7]},\"oomScoreAdj\":3,"
      "\"capabilities\":{\"bounding\":[\"CAP_KILL\"],\"ambient\":[\"CAP_KILL\"]}}");
  auto written = [&](std::initializer_list<const char*> args) {
    String out;
    const Options options = Options::parse({args.begin(), args.size()}, kExecFlags, FlagOrder::kFirstOperand).take();
    Done done = write_process(out, own->root(), options);
    return done ? static_cast<String&&>(out) : static_cast<String&&>(done.error().text);
  };
  CHECK(written({"id", "sh", "-c", "x"}).view() ==
        "{\"oomScoreAdj\":3,\"args\":[\"sh\",\"-c\",\"x\"],\"cwd\":\"/own\",\"env\":[\"A=1\"],\"terminal\":false,"
        "\"user\":{\"uid\":5,\"gid\":6,\"additionalGids\":[7]},\"capabilities\":{\"bounding\":[\"CAP_KILL\"],"
        "\"ambient\":[\"CAP_KILL\"]},\"noNewPrivileges\":true}");
  CHECK(written({"-u", "1:2", "-g", "8", "-e", "B=2", "--cwd=/", "-t", "-c", "CAP_CHOWN", "--no-new-privs=false",
                 "--apparmor", "p", "id", "sh"})
            .view() ==
        "{\"oomScoreAdj\":3,\"args\":[\"sh\"],\"cwd\":\"/\",\"env\":[\"A=1\",\"B=2\"],\"terminal\":true,"
        "\"user\":{\"uid\":1,\"gid\":2,\"additionalGids\":[7,8]},\"capabilities\":{\"bounding\":[\"CAP_KILL\","
        "\"CAP_CHOWN\"],\"effective\":[\"CAP_CHOWN\"],\"permitted\":[\"CAP_CHOWN\"],\"ambient\":[\"CAP_KILL\"]},"
        "\"apparmorProfile\":\"p\",\"noNewPrivileges\":false}");
  CHECK(written({"id"}).view() == "exec args cannot be empty");
  CHECK(written({"-g", "-1", "id", "sh"}).view().starts_with("additional-gids"));
}

void checks_descriptors() {
  const int fd = fcntl(0, F_DUPFD, 3);  // inherited, as it were
  CHECK(fd >= 3);
  CHECK(check_preserved(0, fd - 2));
  CHECK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
  auto own = check_preserved(0, fd - 2);
  CHECK(!own && says(own.error(), "it is not open"));
  CHECK(!check_preserved(0, -1));
  CHECK(!check_preserved(0, 2000));
  close(fd);

  unsetenv("LISTEN_FDS");
  CHECK(inherited_listen_fds() == 0);
  String pid;
  pid.append_i64(getpid());
  setenv("LISTEN_FDS", "2", 1);
  setenv("LISTEN_PID", pid.c_str(), 1);
  CHECK(inherited_listen_fds() == 2);
  setenv("LISTEN_PID", "1", 1);  // somebody else's
  CHECK(inherited_listen_fds() == 0);
  auto spec = JsonDocument::parse("{\"a\":1,\"process\":{\"env\":[\"X=1\"],\"cwd\":\"/\"}}");
  String out;
  append_with_listen_fds(out, spec->root(), 2);
  CHECK(out.view() == "{\"a\":1,\"process\":{\"cwd\":\"/\",\"env\":[\"X=1\",\"LISTEN_FDS=2\",\"LISTEN_PID=1\"]}}");
}

}  // namespace

int main() {
  reads_bytes();
  writes_resources();
  reads_durations();
  reads_users();
  writes_processes();
  checks_descriptors();
  return test::done();
}
