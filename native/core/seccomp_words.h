// The words of linux.seccomp that the compiler takes, with their values; `features` lists them. Each table is sorted.
#pragma once

#include "core/base.h"
#include "core/syscalls.h"
#include "core/uapi.h"

namespace caisson::seccomp {

// SECCOMP_RET_*
inline constexpr u32 kRetKillThread = 0x00000000;
inline constexpr u32 kRetTrap = 0x00030000;
inline constexpr u32 kRetErrno = 0x00050000;
inline constexpr u32 kRetNotify = 0x7fc00000;
inline constexpr u32 kRetTrace = 0x7ff00000;
inline constexpr u32 kRetLog = 0x7ffc0000;
inline constexpr u32 kRetAllow = 0x7fff0000;
inline constexpr u32 kRetKillProcess = 0x80000000;
inline constexpr u32 kRetActionMask = 0xffff0000;

enum class Operator : u8 { kNotEqual, kLess, kLessOrEqual, kEqual, kGreaterOrEqual, kGreater, kMaskedEqual };

struct Word {
  string_view name;
  u32 value;
};

inline constexpr Word kActions[] = {
    {"SCMP_ACT_ALLOW", kRetAllow},
    {"SCMP_ACT_ERRNO", kRetErrno},
    {"SCMP_ACT_KILL", kRetKillThread},
    {"SCMP_ACT_KILL_PROCESS", kRetKillProcess},
    {"SCMP_ACT_KILL_THREAD", kRetKillThread},
    {"SCMP_ACT_LOG", kRetLog},
    {"SCMP_ACT_NOTIFY", kRetNotify},
    {"SCMP_ACT_TRACE", kRetTrace},
    {"SCMP_ACT_TRAP", kRetTrap},
};

inline constexpr Word kOperators[] = {
    {"SCMP_CMP_EQ", static_cast<u32>(Operator::kEqual)},
    {"SCMP_CMP_GE", static_cast<u32>(Operator::kGreaterOrEqual)},
    {"SCMP_CMP_GT", static_cast<u32>(Operator::kGreater)},
    {"SCMP_CMP_LE", static_cast<u32>(Operator::kLessOrEqual)},
    {"SCMP_CMP_LT", static_cast<u32>(Operator::kLess)},
    {"SCMP_CMP_MASKED_EQ", static_cast<u32>(Operator::kMaskedEqual)},
    {"SCMP_CMP_NE", static_cast<u32>(Operator::kNotEqual)},
};

// Each is known and supported; whether the kernel knows it shows when the filter is loaded (WAIT_KILLABLE_RECV: 5.19).
inline constexpr Word kFlags[] = {
    {"SECCOMP_FILTER_FLAG_LOG", uapi::kSeccompFilterFlagLog},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", uapi::kSeccompFilterFlagSpecAllow},
    {"SECCOMP_FILTER_FLAG_TSYNC", uapi::kSeccompFilterFlagTsync},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", uapi::kSeccompFilterFlagWaitKillableRecv},
};

inline constexpr u32 kForeignAbi = kSyscallAbis;  // known to the spec; no kernel of ours runs it

inline constexpr Word kArchitectures[] = {
    {"SCMP_ARCH_AARCH64", static_cast<u32>(SyscallAbi::kAarch64)},
    {"SCMP_ARCH_ARM", static_cast<u32>(SyscallAbi::kArm)},
    {"SCMP_ARCH_LOONGARCH64", kForeignAbi},
    {"SCMP_ARCH_M68K", kForeignAbi},
    {"SCMP_ARCH_MIPS", kForeignAbi},
    {"SCMP_ARCH_MIPS64", kForeignAbi},
    {"SCMP_ARCH_MIPS64N32", kForeignAbi},
    {"SCMP_ARCH_MIPSEL", kForeignAbi},
    {"SCMP_ARCH_MIPSEL64", kForeignAbi},
    {"SCMP_ARCH_MIPSEL64N32", kForeignAbi},
    {"SCMP_ARCH_PARISC", kForeignAbi},
    {"SCMP_ARCH_PARISC64", kForeignAbi},
    {"SCMP_ARCH_PPC", kForeignAbi},
    {"SCMP_ARCH_PPC64", kForeignAbi},
    {"SCMP_ARCH_PPC64LE", kForeignAbi},
    {"SCMP_ARCH_RISCV64", kForeignAbi},
    {"SCMP_ARCH_S390", kForeignAbi},
    {"SCMP_ARCH_S390X", kForeignAbi},
    {"SCMP_ARCH_SH", kForeignAbi},
    {"SCMP_ARCH_SHEB", kForeignAbi},
    {"SCMP_ARCH_X32", static_cast<u32>(SyscallAbi::kX32)},
    {"SCMP_ARCH_X86", static_cast<u32>(SyscallAbi::kX86)},
    {"SCMP_ARCH_X86_64", static_cast<u32>(SyscallAbi::kX86_64)},
};

}  // namespace caisson::seccomp
