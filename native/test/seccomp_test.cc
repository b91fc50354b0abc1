// The seccomp compiler: its rules one by one, every operator at its boundaries, refusals. seccomp_oracle_test.cc
// compares whole profiles with libseccomp.
#include "core/seccomp.h"

#include "core/syscalls.h"
#include "test/bpf_interpreter.h"
#include "test/check.h"
#include "test/seccomp_profiles.h"

using namespace caisson;
using caisson::test::SeccompData;

namespace {

constexpr u64 kAllow = 0x7fff0000, kKillProcess = 0x80000000;
constexpr u64 error(u32 n) { return 0x00050000 | n; }

Result<SeccompProgram> compile(string_view text, u32 native = kAuditArchX86_64) {
  auto doc = JsonDocument::parse(text);
  if (!doc) {
    fprintf(stderr, "test profile: %s\n", doc.error().object);
    abort();
  }
  return compile_seccomp(doc->root(), native);
}

span<const SockFilter> view(const SeccompProgram& p) { return {p.filter.data(), p.filter.size()}; }

u64 run(const SeccompProgram& p, u32 architecture, u32 number, u64 a0 = 0, u64 a1 = 0) {
  return test::run_bpf(view(p), SeccompData{number, architecture, 0, {a0, a1}});
}

u32 number(SyscallAbi abi, string_view name) { return syscall_number(abi, syscall_index(name)); }
u32 native(string_view name) { return number(SyscallAbi::kX86_64, name); }

bool refused(string_view text, string_view why, int err = EINVAL) {
  auto p = compile(text);
  if (p) return false;
  if (p.error().err == err && string_view(p.error().object) == why) return true;
  fprintf(stderr, "got %d: %s\n", p.error().err, p.error().object);
  return false;
}

void refusals() {
  CHECK(refused("[]", "linux.seccomp: must be an object"));
  CHECK(refused("{}", "linux.seccomp.defaultAction: must be a string"));
  CHECK(refused("{\"defaultAction\":\"SCMP_ACT_X\"}", "linux.seccomp.defaultAction: unknown action SCMP_ACT_X"));
  CHECK(refused("{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}",
                "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default"));
  CHECK(refused("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":1}",
                "linux.seccomp.defaultErrnoRet: is not for action SCMP_ACT_ALLOW"));
  CHECK(refused("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":4096}",
                "linux.seccomp.defaultErrnoRet: out of range"));
  CHECK(refused("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_Z80\"]}",
                "linux.seccomp.architectures[0]: unknown architecture SCMP_ARCH_Z80"));
  CHECK(refused("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\",\"F\"]}",
                "linux.seccomp.flags[1]: unknown flag F"));
  auto rule = [](string_view members) {
    String text("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{");
    text.append(members).append("}]}");
    return text;
  };
  CHECK(refused(rule("\"names\":[\"read\"]"), "linux.seccomp.syscalls[0].action: must be a string"));
  CHECK(refused(rule("\"action\":\"SCMP_ACT_KILL\""), "linux.seccomp.syscalls[0].names: must name a system call"));
  CHECK(refused(rule("\"names\":[\"read\",1],\"action\":\"SCMP_ACT_KILL\""),
                "linux.seccomp.syscalls[0].names[1]: must be a string"));
  CHECK(refused(rule("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"errnoRet\":1"),
                "linux.seccomp.syscalls[0].errnoRet: is not for action SCMP_ACT_KILL"));
  CHECK(refused(rule("\"names\":[\"write\"],\"action\":\"SCMP_ACT_NOTIFY\""),
                "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot hold back write"));
  CHECK(refused(rule("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":6,\"value\":1,\"op\":"
                     "\"SCMP_CMP_EQ\"}]"),
                "linux.seccomp.syscalls[0].args[0].index: a system call has arguments 0 to 5"));
  CHECK(refused(
      rule("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":1,\"value\":1,\"op\":\"EQ\"}]"),
      "linux.seccomp.syscalls[0].args[0].op: unknown operator EQ"));
  CHECK(refused(rule("\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":1,\"value\":-1,\"op\":"
                     "\"SCMP_CMP_EQ\"}]"),
                "linux.seccomp.syscalls[0].args[0].value: out of range"));

  String big("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[");
  for (u64 i = 0; i < 1500; ++i)
    big.append(i == 0 ? "" : ",")
        .append(
            "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_EQ\","
            "\"value\":")
        .append_u64(i + (u64{1} << 33))
        .append("}]}");
  auto p = compile(big.append("]}"));
  CHECK(!p && p.error().err == E2BIG &&
        string_view(p.error().object).find("the kernel takes 4096") != string_view::npos);
}

void actions() {
  auto p = compile(
      "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\",\"SECCOMP_FILTER_FLAG_WAIT_"
      "KILLABLE_RECV\"],"
      "\"syscalls\":[{\"names\":[\"read\",\"no_such_call\"],\"action\":\"SCMP_ACT_ALLOW\"},"
      "{\"names\":[\"open\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":0},{\"names\":[\"close\"],\"action\":\"SCMP_"
      "ACT_TRACE\",\"errnoRet\":65535},"
      "{\"names\":[\"stat\"],\"action\":\"SCMP_ACT_KILL\"},{\"names\":[\"fstat\"],\"action\":\"SCMP_ACT_KILL_PROCESS\"}"
      ","
      "{\"names\":[\"lstat\"],\"action\":\"SCMP_ACT_TRAP\"},{\"names\":[\"poll\"],\"action\":\"SCMP_ACT_LOG\"},"
      "{\"names\":[\"lseek\"],\"action\":\"SCMP_ACT_NOTIFY\"},{\"names\":[\"statx\",\"cachestat\"],\"action\":\"SCMP_"
      "ACT_ALLOW\"},"
      "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\"}]}");
  CHECK(p && p->flags == 34 && p->notify && test::valid_bpf(view(*p)));
  if (!p) return;
  const u32 arch = kAuditArchX86_64;
  CHECK(run(*p, arch, native("read")) == kAllow);
  CHECK(run(*p, arch, native("write")) == error(1) && run(*p, arch, native("open")) == error(0));
  CHECK(run(*p, arch, native("close")) == 0x7ff0ffff && run(*p, arch, native("stat")) == 0 &&
        run(*p, arch, native("fstat")) == kKillProcess);
  CHECK(run(*p, arch, native("lstat")) == 0x30000 && run(*p, arch, native("poll")) == 0x7ffc0000 &&
        run(*p, arch, native("lseek")) == 0x7fc00000);
  // newer than cachestat (451): fchmodat2; older ones keep the default
  CHECK(run(*p, arch, 450) == error(1) && run(*p, arch, 451) == kAllow && run(*p, arch, 452) == error(38) &&
        run(*p, arch, 511) == error(38));
  CHECK(run(*p, arch, 400) == error(1) && run(*p, arch, 512) == error(1));
  CHECK(run(*p, arch, UINT32_MAX) == error(1));  // a tracer's "skip this call"
  CHECK(run(*p, kAuditArchI386, 3) == kKillProcess && run(*p, arch, kX32Bit) == kKillProcess &&
        run(*p, kAuditArchAarch64, 63) == kKillProcess);
}

void precedence() {
  auto p = compile(
      "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":["
      "{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":0,\"value\":7,\"op\":\"SCMP_CMP_EQ\"}]}"
      ","
      "{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\"},"
      "{\"names\":[\"dup\"],\"action\":\"SCMP_ACT_LOG\",\"args\":[{\"index\":0,\"value\":9,\"op\":\"SCMP_CMP_EQ\"}]},"
      "{\"names\":[\"dup\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_GT\"}]},"
      "{\"names\":[\"dup2\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{"
      "\"index\":0,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]},"
      "{\"names\":[\"dup3\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{"
      "\"index\":1,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]}]}");
  CHECK(p);
  if (!p) return;
  const u32 arch = kAuditArchX86_64;
  CHECK(run(*p, arch, native("clone"), 7) == kAllow);
  CHECK(run(*p, arch, native("dup"), 9) == 0x7ffc0000 && run(*p, arch, native("dup"), 6) == kAllow &&
        run(*p, arch, native("dup"), 5) == error(1));
  CHECK(run(*p, arch, native("dup2"), 1) == kAllow && run(*p, arch, native("dup2"), 2) == kAllow &&
        run(*p, arch, native("dup2"), 3) == error(1));
  CHECK(run(*p, arch, native("dup3"), 1, 2) == kAllow && run(*p, arch, native("dup3"), 1, 3) == error(1) &&
        run(*p, arch, native("dup3"), 0, 2) == error(1));
}

// From 403 on, where 64-bit time begins, if the profile names nothing newer; with ERRNO as default only.
void newer_calls() {
  auto p = compile(
      "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86\"],\"syscalls\":[{\"names\":[\"statx\"]"
      ","
      "\"action\":\"SCMP_ACT_ALLOW\"}]}");
  CHECK(p);
  if (!p) return;
  CHECK(run(*p, kAuditArchI386, 402) == error(1) && run(*p, kAuditArchI386, 403) == error(38));
  CHECK(run(*p, kAuditArchX86_64, 334) == error(1) && run(*p, kAuditArchX86_64, 424) == error(38));
  auto kill = compile("{\"defaultAction\":\"SCMP_ACT_KILL\"}");
  CHECK(kill && run(*kill, kAuditArchX86_64, 424) == 0);
}

// Bits of the value outside of the mask do not count; a mask without bits compares nothing, so the rule outranks
// others.
void masks() {
  auto p = compile(
      "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86\"],\"syscalls\":["
      "{\"names\":[\"dup\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_MASKED_EQ\","
      "\"value\":6,"
      "\"valueTwo\":3}]},"
      "{\"names\":[\"close\"],\"action\":\"SCMP_ACT_LOG\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":1}]},"
      "{\"names\":[\"close\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_MASKED_EQ\","
      "\"value\":4294967296,\"valueTwo\":1}]}]}");
  CHECK(p);
  if (!p) return;
  const u32 arch = kAuditArchX86_64;
  CHECK(run(*p, arch, native("dup"), 2) == kAllow && run(*p, arch, native("dup"), 3) == kAllow &&
        run(*p, arch, native("dup"), 6) == error(1));
  CHECK(run(*p, arch, native("close"), 1) == 0x7ffc0000 && run(*p, arch, native("close"), 2) == kAllow &&
        run(*p, arch, native("close"), u64{1} << 32) == error(1));
  CHECK(run(*p, kAuditArchI386, number(SyscallAbi::kX86, "close"), 1) == kAllow);
}

void multiplexers() {
  auto p = compile(
      "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86\"],\"syscalls\":["
      "{\"names\":[\"socket\"],\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":0,\"value\":40,\"op\":\"SCMP_CMP_"
      "EQ\"}]},"
      "{\"names\":[\"shmget\"],\"action\":\"SCMP_ACT_ERRNO\"}]}");
  CHECK(p);
  if (!p) return;
  const u32 x86 = kAuditArchI386;
  CHECK(run(*p, x86, number(SyscallAbi::kX86, "socket"), 40) == error(1) &&
        run(*p, x86, number(SyscallAbi::kX86, "socket"), 2) == kAllow);
  CHECK(run(*p, x86, 102, 1) == error(1) && run(*p, x86, 102, 2) == kAllow);
  CHECK(run(*p, x86, 117, 23) == error(1) && run(*p, x86, 117, 23 | 1 << 16) == error(1) &&
        run(*p, x86, 117, 24) == kAllow);
  auto allow = compile(
      "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86\"],\"syscalls\":["
      "{\"names\":[\"socket\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}"
      "]},"
      "{\"names\":[\"bind\"],\"action\":\"SCMP_ACT_ALLOW\"}]}");
  CHECK(allow && run(*allow, x86, 102, 1) == error(1) && run(*allow, x86, 102, 2) == kAllow);
}

// Every operator against every pair of boundary values, on a 64-bit and a 32-bit ABI.
void operators() {
  const u64 values[] = {0,           1,           2,           0x7fffffff,         0x80000000,  0xffffffff,
                        0x100000000, 0x100000001, 0x1ffffffff, 0x8000000000000000, ~u64{0} - 1, ~u64{0}};
  const char* const names[] = {"NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"};
  for (int op = 0; op < 7; ++op)
    for (u64 value : values)
      for (u64 mask : {u64{0xffffffff}, u64{0xf00000000}, u64{0x100000001}, ~u64{0}, u64{0}}) {
        if (op != 6 && mask != 0) continue;
        String text(
            "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86\"],\"syscalls\":[{\"names\":["
            "\"dup\"],\"action\":"
            "\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":3,\"op\":\"SCMP_CMP_");
        text.append(names[op])
            .append("\",\"value\":")
            .append_u64(op == 6 ? mask : value)
            .append(",\"valueTwo\":")
            .append_u64(op == 6 ? value : 0);
        auto p = compile(text.append("}]}]}"));
        CHECK(p);
        if (!p) continue;
        for (u64 given : values)
          for (bool wide : {true, false}) {
            const u64 cut = wide ? ~u64{0} : 0xffffffff;
            const u64 a = given & cut, v = value & cut;
            const bool holds[] = {a != v, a<v, a <= v, a == v, a >= v, a> v, (a & mask & cut) == (v & mask)};
            SeccompData data{wide ? native("dup") : number(SyscallAbi::kX86, "dup"),
                             wide ? kAuditArchX86_64 : kAuditArchI386,
                             0,
                             {}};
            data.arguments[3] = a;
            CHECK(test::run_bpf(view(*p), data) == (holds[op] ? kAllow : error(1)));
          }
      }
}

void sizes() {
  auto p = compile(test::kDockerLike);
  CHECK(p && test::valid_bpf(view(*p)));
  if (p) printf("docker-like profile, three ABIs: %zu instructions\n", p->filter.size());
  auto arm = compile(test::kDockerLike, kAuditArchAarch64);
  CHECK(arm && test::valid_bpf(view(*arm)));
  if (!arm) return;
  CHECK(run(*arm, kAuditArchArm, 0x0f0005) == kAllow && run(*arm, kAuditArchArm, 0x0f0004) == error(1));
  CHECK(run(*arm, kAuditArchX86_64, 0) == kKillProcess);
}

}  // namespace

int main() {
  refusals();
  actions();
  precedence();
  newer_calls();
  masks();
  multiplexers();
  operators();
  sizes();
  return test::done();
}
