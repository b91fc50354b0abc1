// libseccomp as oracle: the same profile, compiled by both, must give the same action for every call number and
// boundary argument of every ABI. Built against libseccomp where CMake finds it.
#include "test/check.h"

#ifdef CAISSON_LIBSECCOMP

#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/seccomp.h"
#include "core/seccomp_profile.h"
#include "core/syscalls.h"
#include "test/bpf_interpreter.h"
#include "test/seccomp_profiles.h"

using namespace caisson;
using caisson::test::SeccompData;

namespace {

struct Abi {
  const char* name;
  SyscallAbi abi;
  u32 native;  // of the kernel
  u32 audit;
  u32 scmp;
};
const Abi kAbis[] = {
    {"x86_64", SyscallAbi::kX86_64, kAuditArchX86_64, kAuditArchX86_64, SCMP_ARCH_X86_64},
    {"x86", SyscallAbi::kX86, kAuditArchX86_64, kAuditArchI386, SCMP_ARCH_X86},
    {"x32", SyscallAbi::kX32, kAuditArchX86_64, kAuditArchX86_64, SCMP_ARCH_X32},
    {"aarch64", SyscallAbi::kAarch64, kAuditArchAarch64, kAuditArchAarch64, SCMP_ARCH_AARCH64},
    {"arm", SyscallAbi::kArm, kAuditArchAarch64, kAuditArchArm, SCMP_ARCH_ARM},
};

scmp_compare operator_of(seccomp::Operator op) {
  const scmp_compare map[] = {SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE,       SCMP_CMP_EQ,
                              SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ};
  return map[static_cast<int>(op)];
}

// The program that libseccomp makes of the rules whose calls both know.
Vec<SockFilter> oracle(const seccomp::Profile& profile, const Abi& abi) {
  Vec<SockFilter> out;
  scmp_filter_ctx context = seccomp_init(profile.default_action);
  if (abi.scmp != seccomp_arch_native()) {
    seccomp_arch_add(context, abi.scmp);
    seccomp_arch_remove(context, seccomp_arch_native());
  }
  seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  for (const seccomp::NamedRule& named : profile.named) {
    const seccomp::Rule& rule = profile.rules[named.rule];
    const int number = seccomp_syscall_resolve_name(syscall_name(named.call));
    if (number == __NR_SCMP_ERROR || rule.action == profile.default_action) continue;
    scmp_arg_cmp args[6] = {};
    for (u32 i = 0; i < rule.condition_count; ++i) {
      const seccomp::Condition& c = profile.conditions[rule.first_condition + i];
      const bool masked = c.op == seccomp::Operator::kMaskedEqual;
      args[i] = {c.argument, operator_of(c.op), masked ? c.mask : c.value, masked ? c.value : 0};
    }
    const int result = seccomp_rule_add_array(context, rule.action, number, rule.condition_count, args);
    if (result != 0) fprintf(stderr, "%s %s: libseccomp answers %d\n", abi.name, syscall_name(named.call), result);
    CHECK(result == 0);
  }
  const int fd = memfd_create("bpf", MFD_CLOEXEC);
  CHECK(seccomp_export_bpf(context, fd) == 0);
  seccomp_release(context);
  SockFilter insn;
  while (pread(fd, &insn, sizeof insn, static_cast<off_t>(out.size() * sizeof insn)) == sizeof insn) out.push(insn);
  close(fd);
  return out;
}

// libseccomp of the distribution may not know the newest calls: those are left out of the comparison.
bool known_to_both(const Abi& abi, u32 number) {
  for (u32 i = 0; i < syscall_count(); ++i)
    if (syscall_number(abi.abi, i) == number)
      return seccomp_syscall_resolve_name_arch(abi.scmp, syscall_name(i)) == static_cast<int>(number);
  return true;
}

void compare(const char* title, string_view text) {
  auto doc = JsonDocument::parse(text);
  CHECK(doc);
  if (!doc) return;
  auto profile = seccomp::read_profile(doc->root());
  CHECK(profile);
  if (!profile) return;
  for (const Abi& abi : kAbis) {
    auto ours = compile_seccomp(doc->root(), abi.native);
    CHECK(ours && test::valid_bpf(span<const SockFilter>(ours->filter.data(), ours->filter.size())));
    if (!ours) continue;
    const Vec<SockFilter> theirs = oracle(*profile, abi);
    // Values at and around every word that the program compares with.
    Vec<u64> values;
    for (u64 v : {u64{0}, u64{1}, u64{2}, u64{0xffff}, u64{0xffffffff}, u64{1} << 32, (u64{1} << 32) + 1, ~u64{0}})
      values.push(v);
    for (const seccomp::Condition& c : profile->conditions)
      for (u64 v : {c.value - 1, c.value, c.value + 1, c.value | c.mask, c.value ^ (c.mask & (~c.mask + 1)),
                    c.value + (u64{1} << 32), c.value & 0xffffffff})
        values.push(v);
    const u32 base = abi.abi == SyscallAbi::kX32 ? kX32Bit : 0;
    u32 newest = base + 423;
    for (const seccomp::NamedRule& named : profile->named) {
      const u32 number = syscall_number(abi.abi, named.call);
      if (number != kNoSyscall && number < base + 512 && number > newest) newest = number;
    }
    const bool errno_default = (profile->default_action & seccomp::kRetActionMask) == seccomp::kRetErrno;
    int shown = 0;
    u64 compared = 0;
    auto one = [&](u32 number) {
      if (!known_to_both(abi, number)) return;
      for (u64 v : values)
        for (u32 argument = 0; argument < 3; ++argument) {
          SeccompData data{number, abi.audit, 0, {}};
          // 32-bit callers cannot have anything in the upper words; multiplexers are covered by seccomp_test.cc.
          data.arguments[argument] =
              abi.audit == kAuditArchX86_64 || abi.audit == kAuditArchAarch64 ? v : v & 0xffffffff;
          const u64 mine = test::run_bpf(span<const SockFilter>(ours->filter.data(), ours->filter.size()), data);
          u64 other = test::run_bpf(span<const SockFilter>(theirs.data(), theirs.size()), data);
          if (errno_default && number > newest && number < base + 512) other = seccomp::kRetErrno | 38;
          ++compared;
          if (mine != other && shown++ < 5)
            fprintf(stderr, "%s %s %u(%u: %llx): ours %llx, libseccomp %llx\n", title, abi.name, number, argument,
                    static_cast<unsigned long long>(v), static_cast<unsigned long long>(mine),
                    static_cast<unsigned long long>(other));
        }
    };
    for (u32 n = 0; n < 700; ++n) one(base + n);
    for (u32 n : {0x0f0001u, 0x0f0002u, 0x0f0005u, 0x0f0006u, 0x3fffffffu}) one(base | n);
    CHECK(shown == 0);
    printf("%-12s %-8s %4zu instructions (libseccomp %4zu), %llu calls compared\n", title, abi.name,
           ours->filter.size(), theirs.size(), static_cast<unsigned long long>(compared));
  }
}

}  // namespace

int main() {
  compare("docker-like", test::kDockerLike);
  compare("deny-list",
          "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\",\"SCMP_ARCH_"
          "ARM\"],\"syscalls\":["
          "{\"names\":[\"mount\",\"umount2\",\"bpf\",\"keyctl\",\"socket\",\"semget\",\"execve\"],\"action\":\"SCMP_"
          "ACT_ERRNO\",\"errnoRet\":13},"
          "{\"names\":[\"reboot\"],\"action\":\"SCMP_ACT_KILL_PROCESS\"},{\"names\":[\"getcwd\",\"dup\"],\"action\":"
          "\"SCMP_ACT_TRAP\"}]}");
  compare("arguments",
          "{\"defaultAction\":\"SCMP_ACT_KILL\",\"architectures\":[\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\",\"SCMP_ARCH_"
          "ARM\"],\"syscalls\":["
          "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_GE\",\"value\":"
          "5},{\"index\":1,\"op\":\"SCMP_CMP_NE\",\"value\":7}]},"
          "{\"names\":[\"write\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":2,\"op\":\"SCMP_CMP_LT\","
          "\"value\":4294967295}]},"
          "{\"names\":[\"close\"],\"action\":\"SCMP_ACT_LOG\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_LE\",\"value\":"
          "2147483648}]},"
          "{\"names\":[\"prctl\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":22,\"args\":[{\"index\":0,\"op\":\"SCMP_"
          "CMP_GT\",\"value\":38}]},"
          "{\"names\":[\"ioctl\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":1,\"op\":\"SCMP_CMP_MASKED_EQ\","
          "\"value\":4294967295,\"valueTwo\":21522}]},"
          "{\"names\":[\"mmap\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":2,\"op\":\"SCMP_CMP_EQ\",\"value\":"
          "3}]}]}");
  compare(
      "empty",
      "{\"defaultAction\":\"SCMP_ACT_LOG\",\"architectures\":[\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\",\"SCMP_ARCH_ARM\"]}");
  return test::done();
}

#else

int main() {
  printf("skipped: libseccomp-dev is not installed\n");
  return 0;
}

#endif
