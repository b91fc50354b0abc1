#include "core/compile/device_program.h"

namespace caisson::compile {

namespace {

// struct bpf_insn: opcode, registers, jump offset, immediate.
enum Opcode : u8 {
  kLoadWord = 0x61,       // BPF_LDX | BPF_MEM | BPF_W
  kAndImmediate = 0x57,   // BPF_ALU64 | BPF_AND | BPF_K
  kShiftRight = 0x77,     // BPF_ALU64 | BPF_RSH | BPF_K
  kMoveRegister = 0xbf,   // BPF_ALU64 | BPF_MOV | BPF_X
  kMoveImmediate = 0xb7,  // BPF_ALU64 | BPF_MOV | BPF_K
  kJumpNotEqual = 0x55,   // BPF_JMP | BPF_JNE | BPF_K
  kJumpIfAny = 0x45,      // BPF_JMP | BPF_JSET | BPF_K
  kJump = 0x05,           // BPF_JMP | BPF_JA
  kExit = 0x95,           // BPF_JMP | BPF_EXIT
};
enum Register : u8 { kResult = 0, kContext = 1, kType = 2, kAccess = 3, kMajor = 4, kMinor = 5 };

class Assembler {
 public:
  void emit(Opcode opcode, Register destination, i32 immediate = 0, u8 source = 0, u16 offset = 0) {
    const u64 registers = static_cast<u64>(destination) | static_cast<u64>(source) << 4;
    code_.push(static_cast<u64>(opcode) | registers << 8 | static_cast<u64>(offset) << 16 |
               static_cast<u64>(static_cast<u32>(immediate)) << 32);
  }
  void answer(bool allowed) {
    emit(kMoveImmediate, kResult, allowed ? 1 : 0);
    emit(kExit, kResult);
  }
  // A jump to the end of the rule under way.
  void skip_unless_equal(Register what, i32 value) {
    open_[open_count_++] = code_.size();
    emit(kJumpNotEqual, what, value);
  }
  void end_rule() {
    while (open_count_ != 0) {
      const size_t jump = open_[--open_count_];
      code_[jump] |= static_cast<u64>(code_.size() - jump - 1) << 16;
    }
  }
  Vec<u64> take() { return static_cast<Vec<u64>&&>(code_); }

 private:
  Vec<u64> code_;
  size_t open_[4] = {};
  u32 open_count_ = 0;
};

bool covers_all(const DeviceRule& rule) {
  return rule.type == DeviceType::kAny && rule.major == DeviceRule::kAny && rule.minor == DeviceRule::kAny &&
         rule.access == kDeviceAll;
}

bool allows_all(span<const DeviceRule> rules) {
  for (size_t i = rules.size(); i-- != 0;) {
    if (!rules[i].allow) return false;
    if (covers_all(rules[i])) return true;
  }
  return false;
}

void emit_rule(Assembler& out, const DeviceRule& rule) {
  if (rule.type != DeviceType::kAny) out.skip_unless_equal(kType, static_cast<i32>(rule.type));
  if (rule.major != DeviceRule::kAny) out.skip_unless_equal(kMajor, rule.major);
  if (rule.minor != DeviceRule::kAny) out.skip_unless_equal(kMinor, rule.minor);
  if (rule.access == kDeviceAll) {
    out.answer(rule.allow);
  } else if (rule.allow) {
    // What this rule grants needs no other; the rest is left for those before it.
    out.emit(kAndImmediate, kAccess, kDeviceAll & ~rule.access);
    out.skip_unless_equal(kAccess, 0);
    out.answer(true);
  } else {
    out.emit(kJumpIfAny, kAccess, rule.access, 0, 1);
    out.emit(kJump, kResult, 0, 0, 2);
    out.answer(false);
  }
  out.end_rule();
}

}  // namespace

Vec<u64> device_program(span<const DeviceRule> rules) {
  Assembler out;
  if (allows_all(rules)) return out.take();
  // struct bpf_cgroup_dev_ctx {u32 access_type: access << 16 | type; u32 major; u32 minor}
  out.emit(kLoadWord, kType, 0, kContext, 0);
  out.emit(kMoveRegister, kAccess, 0, kType);
  out.emit(kShiftRight, kAccess, 16);
  out.emit(kAndImmediate, kType, 0xffff);
  out.emit(kLoadWord, kMajor, 0, kContext, 4);
  out.emit(kLoadWord, kMinor, 0, kContext, 8);
  for (size_t i = rules.size(); i-- != 0;) {
    emit_rule(out, rules[i]);
    if (covers_all(rules[i])) return out.take();  // no rule before it is ever asked; the verifier refuses dead code
  }
  out.answer(false);
  return out.take();
}

}  // namespace caisson::compile
