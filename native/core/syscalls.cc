#include "core/syscalls.h"

namespace caisson {

namespace {

constexpr char kNames[] =
#include "core/syscalls_names.inc"
    ;
constexpr u16 kOffsets[] = {
#include "core/syscalls_offsets.inc"
};
constexpr u32 kCount = sizeof kOffsets / sizeof kOffsets[0];
constexpr u16 kNumbers[kSyscallAbis][kCount] = {
    {
#include "core/syscalls_x86_64.inc"
    },
    {
#include "core/syscalls_x86.inc"
    },
    {
#include "core/syscalls_x32.inc"
    },
    {
#include "core/syscalls_aarch64.inc"
    },
    {
#include "core/syscalls_arm.inc"
    },
};
constexpr u16 kAbsent = 0xffff;
constexpr u16 kArmPrivate = 0xf000;  // 0x0f0000 and up, in 16 bits
static_assert(sizeof kNames < 0xffff);

}  // namespace

u32 syscall_count() { return kCount; }

const char* syscall_name(u32 index) { return kNames + kOffsets[index]; }

u32 syscall_index(string_view name) {
  u32 low = 0;
  u32 high = kCount;
  while (low < high) {
    const u32 middle = (low + high) / 2;
    const int order = string_view(syscall_name(middle)).compare(name);
    if (order == 0) return middle;
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return kNoSyscall;
}

u32 syscall_number(SyscallAbi abi, u32 index) {
  const u16 number = kNumbers[static_cast<u32>(abi)][index];
  if (number == kAbsent) return kNoSyscall;
  if (abi == SyscallAbi::kX32) return kX32Bit | number;
  return number >= kArmPrivate ? 0x0f0000u | (number & 0xfffu) : number;
}

}  // namespace caisson
