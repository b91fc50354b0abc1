// Runs a classic BPF program of seccomp(2) as the kernel would, and fails what the kernel's checker would refuse.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "core/base.h"

namespace caisson::test {

struct SeccompData {
  u32 number;
  u32 architecture;
  u64 instruction_pointer;
  u64 arguments[6];
};
static_assert(sizeof(SeccompData) == 64);

constexpr u64 kBpfInvalid = ~u64{0};

// The action, or kBpfInvalid. Insn has the fields of struct sock_filter.
template <typename Insn>
u64 run_bpf(span<const Insn> program, const SeccompData& data) {
  u32 a = 0;
  for (size_t at = 0; at < program.size(); ++at) {
    const Insn& i = program[at];
    bool held = false;
    switch (i.code) {
      case 0x20:
        if (i.k % 4 != 0 || i.k + 4 > sizeof data) return kBpfInvalid;
        memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, 4);
        continue;
      case 0x54:
        a &= i.k;
        continue;
      case 0x05:
        at += i.k;
        continue;
      case 0x06:
        return i.k;
      case 0x15:
        held = a == i.k;
        break;
      case 0x25:
        held = a > i.k;
        break;
      case 0x35:
        held = a >= i.k;
        break;
      case 0x45:
        held = (a & i.k) != 0;
        break;
      default:
        return kBpfInvalid;
    }
    at += held ? i.jt : i.jf;
  }
  return kBpfInvalid;
}

// What the kernel's bpf_check_classic() demands: every jump lands inside, the last instruction returns.
template <typename Insn>
bool valid_bpf(span<const Insn> program) {
  if (program.empty() || program.size() > 4096 || program[program.size() - 1].code != 0x06) return false;
  for (size_t at = 0; at < program.size(); ++at) {
    const Insn& i = program[at];
    const size_t left = program.size() - at - 1;
    if (i.code == 0x05 ? i.k >= left : (i.code & 0x07) == 0x05 && (i.jt >= left || i.jf >= left)) return false;
  }
  return true;
}

}  // namespace caisson::test
