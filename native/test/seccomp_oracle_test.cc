// The compiler against libseccomp. The same profile is compiled by both, and at every point where either program or the
// profile could change its mind (seccomp_points.h), for every ABI and for architectures that are none of ours:
//  - our program answers what the profile says (seccomp_reference.h),
//  - libseccomp's program answers what the profile says in its dialect,
//  - and where the two answers differ, it is for one of the reasons listed below, each counted.
// Profiles: one in the manner of docker's, and thousands by chance. Further ones may be named as arguments: files with
// a linux.seccomp object, or with a whole config.json.
#include "test/check.h"

#ifdef CAISSON_LIBSECCOMP

#include <dirent.h>
#include <stdlib.h>

#include "core/seccomp.h"
#include "core/syscalls.h"
#include "test/bpf_interpreter.h"
#include "test/files.h"
#include "test/seccomp_libseccomp.h"
#include "test/seccomp_points.h"
#include "test/seccomp_profiles.h"
#include "test/seccomp_random.h"
#include "test/seccomp_reference.h"

using namespace caisson;
using test::Reason;
using test::SeccompData;

namespace {

// How ours and libseccomp's answers differ, and why.
enum Difference : u8 {
  kForeign,      // wrong architecture: ours ends the process, libseccomp the calling thread only
  kNewer,        // ENOSYS for calls newer than the profile (runc's addition, crun has none)
  kMultiplexed,  // socketcall(2) and ipc(2) on x86, see seccomp.h
  kUnknown,      // the call is newer than this libseccomp
  kForgotten,    // a defect of libseccomp 2.5.4, see LibseccompProgram::forgets_number
  kRefused,      // libseccomp finds that rules of one call contradict each other (EEXIST) and leaves some out: runc and
                 // crun give up; ours takes the first
  kContested,    // several conditional rules of one call: ours in the profile's order; libseccomp merges them to a tree
                 // ordered by argument and operator, which drops or cuts short some
  kDifferences,
};
constexpr const char* kDifferenceNames[] = {"foreign",           "newer",   "multiplexed", "unknown to libseccomp",
                                            "number not loaded", "refused", "contested"};

struct Tally {
  u64 points = 0;
  u64 differences[kDifferences] = {};
  u64 failed = 0;

  void print(const char* title) const {
    printf("%-28s %9llu points", title, static_cast<unsigned long long>(points));
    for (u32 i = 0; i < kDifferences; ++i)
      if (differences[i] != 0)
        printf(", %s %llu", kDifferenceNames[i], static_cast<unsigned long long>(differences[i]));
    printf("\n");
    CHECK(points != 0 && failed == 0);
  }
};

// One of the names of the number is (arm has two for some).
bool unknown_to_libseccomp(SyscallAbi abi, u32 number) {
  for (u32 i = 0; i < syscall_count(); ++i)
    if (syscall_number(abi, i) == number && test::libseccomp_number(abi, syscall_name(i)) != number) return true;
  return false;
}

struct Compared {
  const char* title;
  const JsonValue& profile;
  u32 native;
  span<const SockFilter> ours;
  const test::LibseccompProgram& theirs;
  test::Reference our_dialect;
  test::Reference their_dialect;
  bool contested;  // may be
  Tally& tally;

  void fail(const char* what, const SeccompData& d, u64 got, u64 wanted) const {
    if (tally.failed++ >= 3) return;
    fprintf(stderr, "%s: %s: arch %x number %x (%llx %llx %llx %llx %llx %llx): %llx instead of %llx\n", title, what,
            d.architecture, d.number, static_cast<unsigned long long>(d.arguments[0]),
            static_cast<unsigned long long>(d.arguments[1]), static_cast<unsigned long long>(d.arguments[2]),
            static_cast<unsigned long long>(d.arguments[3]), static_cast<unsigned long long>(d.arguments[4]),
            static_cast<unsigned long long>(d.arguments[5]), static_cast<unsigned long long>(got),
            static_cast<unsigned long long>(wanted));
  }

  void look(SyscallAbi abi, const SeccompData& data) const {
    ++tally.points;
    const test::Verdict mine = our_dialect.judge(data);
    const test::Verdict other = their_dialect.judge(data);
    const u64 our_answer = test::run_bpf(ours, data);
    const u64 their_answer = test::run_bpf(span<const SockFilter>(theirs.filter), data);
    if (our_answer != mine.action) fail("ours", data, our_answer, mine.action);
    const bool several = contested && other.conditional > 1;
    const bool forgotten = theirs.forgets_number(data.architecture);
    if (their_answer != other.action && !several && !forgotten && theirs.refused == 0)
      fail("libseccomp's", data, their_answer, other.action);
    if (our_answer == their_answer) return;
    if (mine.reason == Reason::kForeign)
      ++tally.differences[kForeign];
    else if (forgotten)
      ++tally.differences[kForgotten];
    else if (their_answer != other.action && theirs.refused != 0)
      ++tally.differences[kRefused];
    else if (their_answer != other.action)
      ++tally.differences[kContested];
    else if (mine.reason == Reason::kNewer)
      ++tally.differences[kNewer];
    else if (mine.reason == Reason::kMultiplexed || other.reason == Reason::kMultiplexed)
      ++tally.differences[kMultiplexed];
    else if (unknown_to_libseccomp(abi, data.number))
      ++tally.differences[kUnknown];
    else
      fail("unexplained: ours", data, our_answer, their_answer);
  }
};

// `limit`: combinations of arguments for one call.
void compare(const char* title, const JsonValue& profile, u32 native, u32 optimize, u32 limit, bool by_chance,
             bool contested, Tally& tally) {
  auto ours = compile_seccomp(profile, native);
  CHECK(ours && test::valid_bpf(span<const SockFilter>(ours->filter)));
  if (!ours) return void(fprintf(stderr, "%s: %s\n", title, ours.error().object));
  const test::LibseccompProgram theirs = test::libseccomp_compile(profile, native, optimize);
  CHECK(by_chance || theirs.refused == 0);
  for (u32 architecture : {kAuditArchX86_64, kAuditArchI386, kAuditArchAarch64, kAuditArchArm})
    CHECK(by_chance || !theirs.forgets_number(architecture));
  const Compared compared{title,
                          profile,
                          native,
                          ours->filter,
                          theirs,
                          test::Reference::ours(profile, native),
                          test::Reference::libseccomp(profile, native, test::libseccomp_number),
                          contested,
                          tally};
  const test::Points points(profile, ours->filter, theirs.filter, !by_chance);
  for (u32 a = 0; a < kSyscallAbis; ++a) {
    const SyscallAbi abi = static_cast<SyscallAbi>(a);
    if (!test::runs_on(abi, native)) continue;
    // The numbers of x32 are those of x86_64 with a bit: both are among the points.
    if (abi == SyscallAbi::kX32) continue;
    for (u32 number : points.numbers()) {
      const bool x32 = abi == SyscallAbi::kX86_64 && number >= kX32Bit;
      const SyscallAbi named = x32 ? SyscallAbi::kX32 : abi;
      points.arguments(named, number, limit, [&](const u64(&arguments)[6]) {
        SeccompData data{number, test::audit_architecture(abi), 0x7f0000001000, {}};
        memcpy(data.arguments, arguments, sizeof arguments);
        compared.look(named, data);
      });
    }
  }
  // Other machines, and values that are no architecture.
  for (u32 architecture : {0u, ~0u, 0x28u, 0x3eu, 0x40000000u, 0x80000016u, 0xc0000015u, 0xc00000f3u, kAuditArchX86_64,
                           kAuditArchI386, kAuditArchAarch64, kAuditArchArm}) {
    const bool own =
        (native == kAuditArchAarch64) == (architecture == kAuditArchAarch64 || architecture == kAuditArchArm);
    const bool known = architecture == kAuditArchX86_64 || architecture == kAuditArchI386 ||
                       architecture == kAuditArchAarch64 || architecture == kAuditArchArm;
    if (own && known) continue;
    for (u32 number : {0u, 1u, 59u, 102u, 221u, 424u, kX32Bit, ~0u})
      compared.look(SyscallAbi::kX86_64, SeccompData{number, architecture, 0, {1, 2, 3, 4, 5, 6}});
  }
}

void compare_text(const char* title, string_view text, u32 limit) {
  auto doc = JsonDocument::parse(text);
  CHECK(doc);
  if (!doc) return void(fprintf(stderr, "%s: %s\n", title, doc.error().object));
  const JsonValue& root = doc->root();
  const JsonValue& config = root["spec"].present() ? root["spec"] : root;
  const JsonValue& profile = config["linux"].present() ? config["linux"]["seccomp"] : root;
  if (!profile["defaultAction"].present()) return;  // a container without a filter
  for (u32 native : {kAuditArchX86_64, kAuditArchAarch64})
    for (u32 optimize : {1u, 2u}) {
      Tally tally;
      compare(title, profile, native, optimize, limit, false, false, tally);
      String line(title);
      line.append(native == kAuditArchX86_64 ? " x86-64" : " aarch64").append(optimize == 1 ? "" : " tree");
      tally.print(line.c_str());
    }
}

void by_chance(const char* title, u64 seeds, bool overlapping) {
  Tally tally;
  for (u64 seed = 0; seed < seeds; ++seed) {
    const String text = test::RandomProfile(seed, overlapping).text();
    auto doc = JsonDocument::parse(text);
    CHECK(doc);
    if (!doc) continue;
    const u64 before = tally.failed;
    compare(title, doc->root(), seed % 3 == 2 ? kAuditArchAarch64 : kAuditArchX86_64, 1, 64, true, overlapping, tally);
    if (tally.failed != before && before < 3) fprintf(stderr, "%s\n", text.c_str());
  }
  tally.print(title);
  // What is forgiven stays rare.
  for (Difference d : {kForgotten, kRefused, kContested}) CHECK(tally.differences[d] <= tally.points / 20);
}

// Every name and number that both know: ours come from the kernel's headers, theirs from their own tables.
void tables() {
  u32 names = 0;
  for (u32 a = 0; a < kSyscallAbis; ++a) {
    const SyscallAbi abi = static_cast<SyscallAbi>(a);
    for (u32 i = 0; i < syscall_count(); ++i) {
      const u32 theirs = test::libseccomp_number(abi, syscall_name(i));
      if (theirs == kNoSyscall) continue;
      ++names;
      if (syscall_number(abi, i) != theirs)
        fprintf(stderr, "%s: ours %x, libseccomp %x\n", syscall_name(i), syscall_number(abi, i), theirs);
      CHECK(syscall_number(abi, i) == theirs);
    }
    for (u32 n = 0; n < 0x100000; n = n == 1023 ? 0x0f0000 : n + 1) {
      const u32 number = abi == SyscallAbi::kX32 ? kX32Bit | n : n;
      char* name = seccomp_syscall_resolve_num_arch(test::libseccomp_architecture(abi), static_cast<int>(number));
      if (name == nullptr) continue;
      const u32 index = syscall_index(name);
      if (index == kNoSyscall || syscall_number(abi, index) != number)
        fprintf(stderr, "abi %u: libseccomp's %s is %x\n", a, name, number);
      CHECK(index != kNoSyscall && syscall_number(abi, index) == number);
      free(name);
    }
  }
  printf("%u numbers are those of libseccomp's tables\n", names);
}

void one_file(const char* path) {
  auto text = test::read_file(path);
  CHECK(text);
  if (text) compare_text(strrchr(path, '/') == nullptr ? path : strrchr(path, '/') + 1, *text, 2048);
}

void directory(const char* path) {
  DIR* entries = opendir(path);
  CHECK(entries != nullptr);
  if (entries == nullptr) return;
  while (const dirent* entry = readdir(entries)) {
    if (!string_view(entry->d_name).ends_with(".json")) continue;
    String file(path);
    one_file(file.append('/').append(entry->d_name).c_str());
  }
  closedir(entries);
}

}  // namespace

int main(int argc, char** argv) {
  tables();
  compare_text("docker-like", test::kDockerLike, 2048);
  directory(CAISSON_SEEDS "/seccomp");
  directory(CAISSON_SEEDS "/compile");
  for (int i = 1; i < argc; ++i) one_file(argv[i]);
  by_chance("by chance", 1000, false);
  by_chance("by chance, overlapping", 1000, true);
  return test::done();
}

#else

int main() {
  printf("skipped: libseccomp-dev is not installed\n");
  return 0;
}

#endif
