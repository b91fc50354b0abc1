// A profile compiled by libseccomp, driven as runc and crun drive it. Needs CAISSON_LIBSECCOMP.
#pragma once

#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/seccomp.h"
#include "core/syscalls.h"
#include "test/check.h"
#include "test/seccomp_reference.h"

// libseccomp 2.5.4 loses memory where it prunes rules that overlap.
extern "C" const char* __lsan_default_suppressions();
extern "C" __attribute__((used)) inline const char* __lsan_default_suppressions() { return "leak:libseccomp.so"; }

namespace caisson::test {

inline u32 libseccomp_architecture(SyscallAbi abi) {
  constexpr u32 kTokens[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32, SCMP_ARCH_AARCH64, SCMP_ARCH_ARM};
  return kTokens[static_cast<u32>(abi)];
}

inline u32 libseccomp_number(SyscallAbi abi, string_view name) {
  char text[64] = {};
  if (name.size() >= sizeof text) return kNoSyscall;
  memcpy(text, name.data(), name.size());
  const int number = seccomp_syscall_resolve_name_arch(libseccomp_architecture(abi), text);
  if (number >= 0) return static_cast<u32>(number);
  // For calls that x86 multiplexes it answers with a code of its own; the direct number, if there is one, it knows too.
  if (abi != SyscallAbi::kX86 || number == __NR_SCMP_ERROR || !Reference::multiplexed(name)) return kNoSyscall;
  const u32 index = syscall_index(name);
  const u32 direct = index == kNoSyscall ? kNoSyscall : syscall_number(abi, index);
  char* known =
      direct == kNoSyscall ? nullptr : seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86, static_cast<int>(direct));
  const bool same = known != nullptr && name == known;
  free(known);
  return same ? direct : kNoSyscall;
}

struct LibseccompProgram {
  Vec<SockFilter> filter;
  u32 refused = 0;  // rules that it would not add (EEXIST: they contradict others): runc and crun would give up

  // libseccomp 2.5.4 forgets to load the call's number for an architecture where the first rule in its order is of a
  // call that the architecture has not: it drops the rule, and the load with it. The architecture is then compared with
  // call numbers, and no rule ever holds.
  bool forgets_number(u32 architecture) const {
    for (size_t i = 0; i < filter.size(); ++i) {
      const SockFilter& jump = filter[i];
      if (jump.code != 0x15 || jump.k != architecture) continue;
      size_t target = i + 1 + jump.jt;
      while (filter[target].code == 0x05) target += 1 + filter[target].k;
      return (filter[target].code & 0x07) == 0x05;
    }
    return false;
  }
};

inline scmp_compare libseccomp_operator(string_view op) {
  if (op == "SCMP_CMP_NE") return SCMP_CMP_NE;
  if (op == "SCMP_CMP_LT") return SCMP_CMP_LT;
  if (op == "SCMP_CMP_LE") return SCMP_CMP_LE;
  if (op == "SCMP_CMP_EQ") return SCMP_CMP_EQ;
  if (op == "SCMP_CMP_GE") return SCMP_CMP_GE;
  if (op == "SCMP_CMP_GT") return SCMP_CMP_GT;
  return SCMP_CMP_MASKED_EQ;
}

inline void libseccomp_add_rules(scmp_filter_ctx context, u32 action, const JsonValue& entry, int number,
                                 u32& refused) {
  scmp_arg_cmp conditions[64] = {};
  const u32 count = entry["args"].size();
  for (u32 i = 0; i < count; ++i) {
    const JsonValue& arg = entry["args"].at(i);
    conditions[i] = {static_cast<unsigned>(arg["index"].u64_or(0)), libseccomp_operator(arg["op"].string_or({})),
                     arg["value"].u64_or(0), arg["valueTwo"].u64_or(0)};
  }
  if (!Reference::any_suffices(entry)) {
    if (seccomp_rule_add_array(context, action, number, count, conditions) != 0) ++refused;
    return;
  }
  for (u32 i = 0; i < count; ++i)
    if (seccomp_rule_add_array(context, action, number, 1, &conditions[i]) != 0) ++refused;
}

// `optimize`: 1 is libseccomp's own default (crun), 2 sorts into a binary tree (runc since 1.1).
inline LibseccompProgram libseccomp_compile(const JsonValue& profile, u32 native, u32 optimize) {
  LibseccompProgram made;
  const u32 default_action = Reference::action_of(profile["defaultAction"], profile["defaultErrnoRet"]);
  scmp_filter_ctx context = seccomp_init(default_action);
  auto add = [&](u32 architecture) {
    const int result = seccomp_arch_add(context, architecture);
    CHECK(result == 0 || result == -EEXIST);
  };
  const bool x86 = native == kAuditArchX86_64;
  add(x86 ? SCMP_ARCH_X86_64 : SCMP_ARCH_AARCH64);
  if (seccomp_arch_native() != (x86 ? SCMP_ARCH_X86_64 : SCMP_ARCH_AARCH64))
    seccomp_arch_remove(context, SCMP_ARCH_NATIVE);
  const JsonValue& architectures = profile["architectures"];
  for (u32 i = 0; i < architectures.size(); ++i) {
    const string_view name = architectures.at(i).string_or({});
    if (x86 && name == "SCMP_ARCH_X86") add(SCMP_ARCH_X86);
    if (x86 && name == "SCMP_ARCH_X32") add(SCMP_ARCH_X32);
    if (!x86 && name == "SCMP_ARCH_ARM") add(SCMP_ARCH_ARM);
  }
  if (optimize != 1) CHECK(seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, optimize) == 0);

  const JsonValue& entries = profile["syscalls"];
  for (u32 e = 0; e < entries.size(); ++e) {
    const u32 action = Reference::action_of(entries.at(e)["action"], entries.at(e)["errnoRet"]);
    if (action == default_action) continue;
    for (u32 n = 0; n < entries.at(e)["names"].size(); ++n) {
      const int number = seccomp_syscall_resolve_name(entries.at(e)["names"].at(n).string_or({}).data());
      if (number != __NR_SCMP_ERROR) libseccomp_add_rules(context, action, entries.at(e), number, made.refused);
    }
  }
  const int fd = memfd_create("bpf", MFD_CLOEXEC);
  CHECK(seccomp_export_bpf(context, fd) == 0);
  seccomp_release(context);
  SockFilter buffer[512];
  ssize_t got = 0;
  while ((got = pread(fd, buffer, sizeof buffer, static_cast<off_t>(made.filter.size() * sizeof(SockFilter)))) > 0)
    for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(SockFilter); ++i) made.filter.push(buffer[i]);
  close(fd);
  return made;
}

}  // namespace caisson::test
