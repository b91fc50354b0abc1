// The installed kernel as second judge of what a filter answers, beside bpf_interpreter.h:
//  - The filter is loaded by seccomp(2) in a child with each of its returns replaced by an errno of its own, so that no
//    call is ever carried out; then the child makes every call of seccomp_points.h and notes what comes back. x86_64
//    and x32 numbers by `syscall`, x86 by `int 0x80`.
//  - For the ABIs that this machine cannot enter, the filter is attached to a socket, with each return replaced by a
//    length, and struct seccomp_data is sent through it as a packet: the same engine of the kernel, for any
//    architecture.
// Both for our program and for libseccomp's, where it is installed.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/seccomp.h"
#include "core/syscalls.h"
#include "test/bpf_interpreter.h"
#include "test/check.h"
#include "test/seccomp_points.h"
#include "test/seccomp_profiles.h"
#include "test/seccomp_random.h"
#ifdef CAISSON_LIBSECCOMP
#include "test/seccomp_libseccomp.h"
#endif

using namespace caisson;
using test::SeccompData;

namespace {

constexpr u16 kReturn = 0x06;

// The program with its returns numbered from 1, and what they were.
struct Numbered {
  Vec<SockFilter> filter;
  Vec<u32> actions;

  // `base` is added to each number.
  Numbered(span<const SockFilter> program, u32 base) {
    for (SockFilter i : program) {
      if (i.code == kReturn) i.k = base | number_of(i.k);
      filter.push(i);
    }
  }
  u32 number_of(u32 action) {
    for (u32 n = 0; n < actions.size(); ++n)
      if (actions[n] == action) return n + 1;
    actions.push(action);
    return static_cast<u32>(actions.size());
  }
};

// What a child was asked and what it found. The child makes no call of its own once the filter is loaded: it writes
// here.
struct Sheet {
  static constexpr u32 kMax = 200'000;
  int load_error;
  u32 count;
  struct Line {
    SeccompData data;
    i64 answer;
  } lines[kMax];
};

void load(const Vec<SockFilter>& filter, u32 flags, Sheet& sheet) {
  sock_fprog program = {static_cast<unsigned short>(filter.size()),
                        reinterpret_cast<sock_filter*>(const_cast<SockFilter*>(filter.data()))};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) != 0)
    sheet.load_error = errno;
}

// Runs `work` in a child that ends by an illegal instruction: it may have no other way left.
template <typename F>
int in_child(const F& work) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGILL, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    work();
    __builtin_trap();
  }
  int status = 0;
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

#if defined(__x86_64__)

i64 enter_64(const SeccompData& d) {
  i64 result = 0;
  register u64 r10 __asm__("r10") = d.arguments[3];
  register u64 r8 __asm__("r8") = d.arguments[4];
  register u64 r9 __asm__("r9") = d.arguments[5];
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(u64{d.number}), "D"(d.arguments[0]), "S"(d.arguments[1]), "d"(d.arguments[2]), "r"(r10),
                     "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

// eax, ebx, ecx, edx, esi, edi, ebp
extern "C" i32 caisson_test_int80(const u32 (&registers)[7]);
__asm__(
    ".pushsection .text\n"
    "caisson_test_int80:\n"
    "  push %rbx\n  push %rbp\n"
    "  mov 0(%rdi), %eax\n  mov 4(%rdi), %ebx\n  mov 8(%rdi), %ecx\n  mov 12(%rdi), %edx\n"
    "  mov 16(%rdi), %esi\n  mov 24(%rdi), %ebp\n  mov 20(%rdi), %edi\n"
    "  int $0x80\n"
    "  pop %rbp\n  pop %rbx\n  ret\n"
    ".popsection\n");

i64 enter_32(const SeccompData& d) {
  u32 registers[7] = {d.number};
  for (u32 i = 0; i < 6; ++i) registers[i + 1] = static_cast<u32>(d.arguments[i]);
  return caisson_test_int80(registers);
}

bool has_int80(Sheet& sheet) {
  sheet.lines[0].answer = 0;
  const int signal = in_child([&] { sheet.lines[0].answer = enter_32(SeccompData{20, 0, 0, {}}); });  // getpid
  return signal == SIGILL && sheet.lines[0].answer > 0;
}

// True where the kernel's answers are the interpreter's.
bool by_calls(const char* title, const Numbered& numbered, Sheet& sheet) {
  sheet.load_error = 0;
  for (u32 i = 0; i < sheet.count; ++i) sheet.lines[i].answer = 0;
  const int ended = in_child([&] {
    load(numbered.filter, 0, sheet);
    if (sheet.load_error != 0) return;
    for (u32 i = 0; i < sheet.count; ++i) {
      Sheet::Line& line = sheet.lines[i];
      line.answer = line.data.architecture == kAuditArchI386 ? enter_32(line.data) : enter_64(line.data);
    }
  });
  CHECK(ended == SIGILL && sheet.load_error == 0);
  u32 wrong = 0;
  for (u32 i = 0; i < sheet.count; ++i) {
    const SeccompData& d = sheet.lines[i].data;
    const u64 expected = test::run_bpf(span<const SockFilter>(numbered.filter), d);
    if (sheet.lines[i].answer == -static_cast<i64>(expected & 0xffff)) continue;
    if (wrong++ < 3)
      fprintf(stderr, "%s: arch %x number %x: kernel %lld, interpreter %llu\n", title, d.architecture, d.number,
              static_cast<long long>(sheet.lines[i].answer), static_cast<unsigned long long>(expected & 0xffff));
  }
  return wrong == 0;
}

#endif

// A filter on a socket sees a packet whose words are big-endian.
bool by_packets(const char* title, const Numbered& numbered, const Sheet& sheet) {
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
  sock_fprog program = {static_cast<unsigned short>(numbered.filter.size()),
                        reinterpret_cast<sock_filter*>(const_cast<SockFilter*>(numbered.filter.data()))};
  CHECK(setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
  CHECK(numbered.actions.size() < sizeof(SeccompData));
  u32 wrong = 0;
  for (u32 i = 0; i < sheet.count; ++i) {
    u32 words[sizeof(SeccompData) / 4];
    memcpy(words, &sheet.lines[i].data, sizeof words);
    for (u32& word : words) word = __builtin_bswap32(word);
    char cut[sizeof words];
    const bool passed = send(pair[0], words, sizeof words, 0) == sizeof words;
    const ssize_t length = passed ? recv(pair[1], cut, sizeof cut, MSG_DONTWAIT) : -1;
    const SeccompData& d = sheet.lines[i].data;
    const u64 expected = test::run_bpf(span<const SockFilter>(numbered.filter), d);
    if (length == static_cast<ssize_t>(expected)) continue;
    if (wrong++ < 3)
      fprintf(stderr, "%s: arch %x number %x: kernel %zd, interpreter %llu\n", title, d.architecture, d.number, length,
              static_cast<unsigned long long>(expected));
  }
  close(pair[0]);
  close(pair[1]);
  return wrong == 0;
}

struct Judge {
  Sheet& sheet;
  bool int80 = false;
  u64 calls = 0;
  u64 packets = 0;

  void ask(SyscallAbi abi, const test::Points& points, u32 limit) {
    const bool x32 = abi == SyscallAbi::kX32;
    for (u32 number : points.numbers()) {
      // Numbers of x32 among those of x86_64 are its own part.
      if ((abi == SyscallAbi::kX86_64 && number >= kX32Bit && number != UINT32_MAX) || (x32 && number < kX32Bit))
        continue;
      // uretprobe(2), uprobe(2): newer kernels (6.14) let them pass without asking a filter; they end the caller.
      if (abi == SyscallAbi::kX86_64 && (number == 335 || number == 336)) continue;
      points.arguments(abi, number, limit, [&](const u64(&arguments)[6]) {
        if (sheet.count == Sheet::kMax) return;
        SeccompData& d = sheet.lines[sheet.count++].data;
        d = {number, test::audit_architecture(abi), 0, {}};
        // What a 32-bit caller cannot pass, the filter is not asked.
        const bool narrow = abi == SyscallAbi::kX86 || abi == SyscallAbi::kArm;
        for (u32 i = 0; i < 6; ++i) d.arguments[i] = narrow ? arguments[i] & 0xffffffff : arguments[i];
      });
    }
    CHECK(sheet.count < Sheet::kMax);
  }

  void judge(const char* title, const JsonValue& profile, span<const SockFilter> program, u32 native, u32 limit,
             bool every_number) {
    const test::Points points(profile, program, {}, every_number);
#if defined(__x86_64__)
    if (native == kAuditArchX86_64) {
      sheet.count = 0;
      ask(SyscallAbi::kX86_64, points, limit);
      ask(SyscallAbi::kX32, points, limit);
      if (int80) ask(SyscallAbi::kX86, points, limit);
      CHECK(by_calls(title, Numbered(program, SECCOMP_RET_ERRNO), sheet));
      calls += sheet.count;
      return;
    }
#endif
    sheet.count = 0;
    for (u32 a = 0; a < kSyscallAbis; ++a)
      if (test::runs_on(static_cast<SyscallAbi>(a), native)) ask(static_cast<SyscallAbi>(a), points, limit);
    CHECK(by_packets(title, Numbered(program, 0), sheet));
    packets += sheet.count;
  }

  // The program as it is, with the flags that need no second party.
  void loads(const Vec<SockFilter>& filter) {
    sheet.load_error = 0;
    CHECK(in_child([&] {
            load(filter, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW, sheet);
          }) == SIGILL);
    CHECK(sheet.load_error == 0);
  }

  void profile(const char* title, string_view text, u32 limit, bool every_number) {
    auto doc = JsonDocument::parse(text);
    CHECK(doc);
    if (!doc) return;
    for (u32 native : {kAuditArchX86_64, kAuditArchAarch64}) {
      auto ours = compile_seccomp(doc->root(), native);
      CHECK(ours);
      if (!ours) continue;
      if (native == kNativeAuditArch) loads(ours->filter);
      judge(title, doc->root(), ours->filter, native, limit, every_number);
#ifdef CAISSON_LIBSECCOMP
      const test::LibseccompProgram theirs = test::libseccomp_compile(doc->root(), native, 1);
      judge(title, doc->root(), theirs.filter, native, limit, every_number);
#endif
    }
  }
};

}  // namespace

int main() {
  void* shared = mmap(nullptr, sizeof(Sheet), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  Judge judge{*static_cast<Sheet*>(shared)};
#if defined(__x86_64__)
  judge.int80 = has_int80(judge.sheet);
  if (!judge.int80) printf("skipped x86 by calls: this kernel does not take int 0x80\n");
#else
  printf("skipped by calls: made for x86-64\n");
#endif
  judge.profile("docker-like", test::kDockerLike, 1024, true);
  for (u64 seed = 0; seed < 100; ++seed)
    judge.profile("by chance", test::RandomProfile(1'000'000 + seed, seed % 2 == 1).text(), 64, false);
  printf("%llu calls and %llu packets judged by the kernel\n", static_cast<unsigned long long>(judge.calls),
         static_cast<unsigned long long>(judge.packets));
  return test::done();
}
