// The tables of capabilities, signals, resource limits and system calls.
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "core/capabilities.h"
#include "core/rlimits.h"
#include "core/signals.h"
#include "core/syscalls.h"
#include "test/check.h"

using namespace caisson;

namespace {

JsonDocument json(string_view text) { return JsonDocument::parse(text).take(); }

void capabilities() {
  CHECK(capability_number("CAP_CHOWN") == 0 && capability_number("CAP_SYS_ADMIN") == 21);
  CHECK(capability_number("CAP_CHECKPOINT_RESTORE") == 40 && capability_number("CAP_NET_BIND_SERVICE") == 10);
  CHECK(capability_number("cap_chown") == -1 && capability_number("CHOWN") == -1 && capability_number("") == -1);
  for (u32 n = 0; n < kCapabilityCount; ++n) CHECK(capability_number(capability_name(n)) == static_cast<int>(n));
  CHECK(capability_name(41).empty());
  auto set = parse_capabilities(json("[\"CAP_KILL\",\"CAP_CHOWN\",\"CAP_KILL\"]").root(), "x");
  CHECK(set && *set == 0x21);
  CHECK(*parse_capabilities(JsonValue::absent(), "x") == 0);
  auto bad = parse_capabilities(json("[\"CAP_KILL\",\"CAP_X\"]").root(), "process.capabilities.bounding");
  CHECK(!bad && string_view(bad.error().object) == "process.capabilities.bounding[1]: unknown capability CAP_X");
  CHECK(!parse_capabilities(json("[1]").root(), "x") && !parse_capabilities(json("\"CAP_KILL\"").root(), "x"));
}

void signals() {
  struct {
    string_view text;
    int number;
  } const good[] = {{"SIGTERM", SIGTERM}, {"TERM", 15},           {"sigkill", 9},   {"9", 9},
                    {"64", 64},           {"SIGRTMIN", 34},       {"RTMIN+3", 37},  {"SIGRTMAX", 64},
                    {"sigrtmax-14", 50},  {"SIGSYS", SIGSYS},     {"SIGIO", SIGIO}, {"POLL", SIGPOLL},
                    {"IOT", 6},           {"SIGWINCH", SIGWINCH}, {"CLD", SIGCHLD}, {"SIGSTKFLT", 16},
                    {"RTMIN+30", 64},     {"SIGXFSZ", SIGXFSZ}};
  for (const auto& g : good) {
    auto n = parse_signal(g.text);
    CHECK(n && *n == g.number);
  }
  for (string_view text :
       {"", "0", "65", "-1", "SIG", "SIGNONE", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMIN+", "15x", "1000", "SIG9"})
    CHECK(!parse_signal(text));
  CHECK(string_view(parse_signal("SIGFOO").error().object) == "unknown signal SIGFOO");
  for (int n = 1; n <= kSignalMax; ++n)
    if (n != 32 && n != 33) CHECK(*parse_signal(signal_name(n)) == n);
  CHECK(signal_name(33).view() == "33" && signal_name(37).view() == "SIGRTMIN+3");
}

void rlimits() {
  CHECK(rlimit_number("RLIMIT_NOFILE") == RLIMIT_NOFILE && rlimit_number("RLIMIT_RTTIME") == RLIMIT_RTTIME);
  CHECK(rlimit_number("RLIMIT_MEMLOCK") == RLIMIT_MEMLOCK && rlimit_number("RLIMIT_AS") == RLIMIT_AS);
  CHECK(rlimit_number("NOFILE") == -1 && rlimit_name(7) == "RLIMIT_NOFILE" && rlimit_name(16).empty());
  auto list = parse_rlimits(json("[{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":18446744073709551615}]").root(), "r");
  CHECK(list && list->size() == 1 && (*list)[0].resource == RLIMIT_CORE && (*list)[0].hard == UINT64_MAX);
  auto why = [](string_view text) {
    return String(string_view(parse_rlimits(json(text).root(), "process.rlimits").error().object));
  };
  CHECK(why("[{\"type\":\"RLIMIT_X\"}]").view() == "process.rlimits[0]: unknown resource limit RLIMIT_X");
  CHECK(why("[{\"type\":\"RLIMIT_AS\",\"soft\":1,\"hard\":2},{\"type\":\"RLIMIT_AS\",\"soft\":1,\"hard\":2}]").view() ==
        "process.rlimits[1]: duplicate RLIMIT_AS");
  CHECK(why("[{\"type\":\"RLIMIT_AS\",\"soft\":3,\"hard\":2}]").view() == "process.rlimits[0]: soft is above hard");
  CHECK(why("[{\"type\":\"RLIMIT_AS\",\"soft\":-1,\"hard\":2}]").view() == "process.rlimits[0].soft: out of range");
}

void syscalls() {
  for (u32 i = 1; i < syscall_count(); ++i) CHECK(string_view(syscall_name(i - 1)) < string_view(syscall_name(i)));
  auto number = [](SyscallAbi abi, string_view name) { return syscall_number(abi, syscall_index(name)); };
  CHECK(number(SyscallAbi::kX86, "socketcall") == 102 && number(SyscallAbi::kX86_64, "socketcall") == kNoSyscall);
  CHECK(number(SyscallAbi::kX32, "execve") == (kX32Bit | 520) && number(SyscallAbi::kAarch64, "openat") == 56);
  CHECK(number(SyscallAbi::kArm, "set_tls") == 0x0f0005 && number(SyscallAbi::kArm, "mseal") == 462);
  CHECK(syscall_index("no_such_call") == kNoSyscall && syscall_index("") == kNoSyscall);
  CHECK(syscall_index("syscalls") == kNoSyscall);
#ifdef __x86_64__
  CHECK(number(SyscallAbi::kX86_64, "openat") == SYS_openat && number(SyscallAbi::kX86_64, "execve") == SYS_execve);
#endif
}

}  // namespace

int main() {
  capabilities();
  signals();
  rlimits();
  syscalls();
  return test::done();
}
