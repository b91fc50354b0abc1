// From Profile to instructions. For each ABI the call numbers become ranges of equal behaviour, found by binary search:
// a typical profile has far fewer ranges than calls, so the program is short (the kernel translates and checks every
// instruction at each load) and no call passes more than about eight comparisons.
//
// The program is written from its end to its start, so every jump knows its target; a jump reaches 255 instructions,
// beyond that a return is repeated and anything else is reached through an unconditional jump.
#include "core/seccomp_profile.h"

namespace caisson::seccomp {

namespace {

// <linux/bpf_common.h>
constexpr u16 kLoadWord = 0x20;  // BPF_LD|BPF_W|BPF_ABS
constexpr u16 kAnd = 0x54;       // BPF_ALU|BPF_AND|BPF_K
constexpr u16 kJump = 0x05;      // BPF_JMP|BPF_JA
constexpr u16 kJumpEqual = 0x15;
constexpr u16 kJumpGreater = 0x25;
constexpr u16 kJumpGreaterOrEqual = 0x35;
constexpr u16 kReturn = 0x06;  // BPF_RET|BPF_K

// struct seccomp_data, seccomp(2); both of our architectures are little-endian.
constexpr u32 kOffsetNumber = 0;
constexpr u32 kOffsetArchitecture = 4;
constexpr u32 argument_low(u32 n) { return 16 + 8 * n; }
constexpr u32 argument_high(u32 n) { return 20 + 8 * n; }

constexpr u32 kErrnoEnosys = 38;

// The number that a tracer sets to have a call skipped; filters see it since 4.8. It is no call of x32.
constexpr u32 kSkippedCall = UINT32_MAX;

// A place in the program, counted from its end.
using Place = u32;

class Assembler {
 public:
  Place emit(u16 code, u32 k, u8 jt = 0, u8 jf = 0) {
    reversed_.push({code, jt, jf, k});
    return here();
  }

  // A return of `action` within reach of the next instruction but two.
  Place result(u32 action) {
    for (const Return& r : returns_)
      if (r.action == action && near(r.place)) return r.place;
    const Place place = emit(kReturn, action);
    for (Return& r : returns_)
      if (r.action == action) return r.place = place;
    returns_.push({action, place});
    return place;
  }

  // `code` with both targets, by way of unconditional jumps where they are far.
  Place branch(u16 code, u32 k, Place yes, Place no) {
    yes = reach(yes);
    no = reach(no);
    const u32 next = static_cast<u32>(reversed_.size());
    return emit(code, k, static_cast<u8>(next - yes - 1), static_cast<u8>(next - no - 1));
  }

  // Loads a word of struct seccomp_data, then goes on at the instruction that was emitted last, or at `then`.
  Place load(u32 offset) { return emit(kLoadWord, offset); }
  Place load(u32 offset, Place then) {
    if (then != here()) emit(kJump, static_cast<u32>(reversed_.size()) - then - 1);
    return load(offset);
  }
  size_t size() const { return reversed_.size(); }

  void copy_to(Vec<SockFilter>& out) const {
    for (size_t i = reversed_.size(); i-- != 0;) out.push(reversed_[i]);
  }

 private:
  struct Return {
    u32 action;
    Place place;
  };
  static constexpr u32 kReach = 250;  // 255, less what reach() may put in between

  Place here() const { return static_cast<Place>(reversed_.size() - 1); }
  bool near(Place place) const { return reversed_.size() - place <= kReach; }
  Place reach(Place place) {
    if (near(place)) return place;
    const SockFilter target = reversed_[place];
    if (target.code == kReturn) return result(target.k);
    return emit(kJump, static_cast<u32>(reversed_.size()) - place - 1);
  }

  Vec<SockFilter> reversed_;
  Vec<Return> returns_;  // the latest of each action
};

// What happens to a call: an action, or rules to try in order.
struct Behaviour {
  bool conditional = false;
  u32 action = 0;
  u32 first = 0;  // conditional: of Section::order_, `count` rules
  u32 count = 0;
};

struct Range {
  u32 start = 0;
  Behaviour behaviour;
};

// How a rule comes to bear on a number: its own, or as a case of a multiplexer.
struct Applied {
  u32 number = 0;
  u32 sequence = 0;  // position in the profile
  u32 rule = 0;      // of Profile::rules
  bool multiplexed = false;
  u32 sub_call = 0;  // multiplexed: first argument of the multiplexer
};

// <linux/net.h>, <linux/ipc.h>: the calls behind socketcall(2) and ipc(2).
struct SubCall {
  char name[12];
  u8 number;
};
constexpr SubCall kSocketCalls[] = {
    {"socket", 1},      {"bind", 2},        {"connect", 3},    {"listen", 4},      {"accept", 5},
    {"getsockname", 6}, {"getpeername", 7}, {"socketpair", 8}, {"send", 9},        {"recv", 10},
    {"sendto", 11},     {"recvfrom", 12},   {"shutdown", 13},  {"setsockopt", 14}, {"getsockopt", 15},
    {"sendmsg", 16},    {"recvmsg", 17},    {"accept4", 18},   {"recvmmsg", 19},   {"sendmmsg", 20},
};
constexpr SubCall kIpcCalls[] = {
    {"semop", 1},   {"semget", 2},  {"semctl", 3}, {"semtimedop", 4}, {"msgsnd", 11}, {"msgrcv", 12},
    {"msgget", 13}, {"msgctl", 14}, {"shmat", 21}, {"shmdt", 22},     {"shmget", 23}, {"shmctl", 24},
};

bool is_32_bit(SyscallAbi abi) { return abi != SyscallAbi::kX86_64 && abi != SyscallAbi::kAarch64; }

// The filter of one ABI.
class Section {
 public:
  Section(const Profile& profile, SyscallAbi abi, Assembler& out) : profile_(profile), abi_(abi), out_(out) {}

  // Writes the section; its entry expects the call's number in the accumulator.
  Place write() {
    gather();
    make_ranges();
    return search(0, static_cast<u32>(ranges_.size()));
  }

 private:
  void gather() {
    if (abi_ == SyscallAbi::kX86) {
      find_behind("socketcall", kSocketCalls);
      find_behind("ipc", kIpcCalls);
    }
    for (u32 i = 0; i < profile_.named.size(); ++i) {
      const NamedRule& named = profile_.named[i];
      const u32 number = syscall_number(abi_, named.call);
      // Redundant, and dropped as runc does, so that it cannot outrank others.
      if (profile_.rules[named.rule].action == profile_.default_action) continue;
      if (number != kNoSyscall) applied_.push({number, i, named.rule, false, 0});
      if (abi_ != SyscallAbi::kX86) continue;
      for (const Behind& b : behind_)
        if (b.call == named.call) gather_multiplexed(b, named, i);
    }
    sort();
  }

  // A call behind a multiplexer.
  struct Behind {
    u32 call = 0;         // syscall_index()
    u32 multiplexer = 0;  // its number
    u32 sub_call = 0;
  };

  void find_behind(string_view multiplexer, span<const SubCall> calls) {
    const u32 number = syscall_number(abi_, syscall_index(multiplexer));
    for (const SubCall& call : calls) behind_.push({syscall_index(call.name), number, call.number});
  }

  void gather_multiplexed(const Behind& behind, const NamedRule& named, u32 sequence) {
    const Rule& rule = profile_.rules[named.rule];
    if (conditional(rule) && strictness(rule.action) >= strictness(profile_.default_action)) return;
    applied_.push({behind.multiplexer, sequence, named.rule, true, behind.sub_call});
  }

  // By number, then as in the profile. Shell sort: in place, no recursion, fast enough for a few thousand.
  void sort() {
    auto before = [](const Applied& a, const Applied& b) {
      return a.number != b.number ? a.number < b.number : a.sequence < b.sequence;
    };
    const size_t n = applied_.size();
    for (size_t gap : {size_t{3905}, size_t{701}, size_t{301}, size_t{132}, size_t{57}, size_t{23}, size_t{10},
                       size_t{4}, size_t{1}})
      for (size_t i = gap; i < n; ++i) {
        const Applied moved = applied_[i];
        size_t at = i;
        for (; at >= gap && before(moved, applied_[at - gap]); at -= gap) applied_[at] = applied_[at - gap];
        applied_[at] = moved;
      }
  }

  // A mask without bits leaves nothing to compare.
  bool conditional(const Rule& rule) const {
    for (u32 i = 0; i < rule.condition_count; ++i) {
      const Condition& c = profile_.conditions[rule.first_condition + i];
      if (c.op != Operator::kMaskedEqual || (is_32_bit(abi_) ? static_cast<u32>(c.mask) : c.mask) != 0) return true;
    }
    return false;
  }
  bool unconditional(const Applied& a) const { return !a.multiplexed && !conditional(profile_.rules[a.rule]); }

  Behaviour behaviour_of(size_t first, size_t end) const {
    for (size_t i = first; i < end; ++i)
      if (unconditional(applied_[i])) return {false, profile_.rules[applied_[i].rule].action, 0, 0};
    return {true, 0, static_cast<u32>(first), static_cast<u32>(end - first)};
  }

  void make_ranges() {
    const u32 base = abi_ == SyscallAbi::kX32 ? kX32Bit : 0;
    add_range(base, default_behaviour());
    // Where the calls that are newer than the profile lie; none for other default actions.
    u32 newer = UINT32_MAX, newer_end = UINT32_MAX;
    if ((profile_.default_action & kRetActionMask) == kRetErrno) newer_calls(base, newer, newer_end);
    for (size_t i = 0; i < applied_.size();) {
      size_t end = i + 1;
      while (end < applied_.size() && applied_[end].number == applied_[i].number) ++end;
      const u32 number = applied_[i].number;
      if (number > newer) {
        // Only private calls (arm) and x32's own numbers lie above.
        add_range(newer, {false, kRetErrno | kErrnoEnosys, 0, 0});
        add_range(newer_end, default_behaviour());
        newer = UINT32_MAX;
      }
      add_range(number, behaviour_of(i, end));
      add_range(number + 1, default_behaviour());
      i = end;
    }
    if (newer != UINT32_MAX) {
      add_range(newer, {false, kRetErrno | kErrnoEnosys, 0, 0});
      add_range(newer_end, default_behaviour());
    }
  }

  void newer_calls(u32 base, u32& first, u32& end) const {
    constexpr u32 kTime64 = 403;      // clock_gettime64, 5.1
    constexpr u32 kX32Private = 512;  // to 547
    first = base + kTime64;
    end = base + kX32Private;
    for (const NamedRule& named : profile_.named) {
      const u32 number = syscall_number(abi_, named.call);
      if (number != kNoSyscall && number >= first && number < end) first = number + 1;
    }
    if (first == end) first = end = UINT32_MAX;
  }

  Behaviour default_behaviour() const { return {false, profile_.default_action, 0, 0}; }

  // Starts are ascending; a start that repeats replaces, a behaviour that repeats extends.
  void add_range(u32 start, const Behaviour& b) {
    if (!ranges_.empty() && ranges_.back().start == start) ranges_.pop();
    if (!ranges_.empty()) {
      const Behaviour& last = ranges_.back().behaviour;
      if (!last.conditional && !b.conditional && last.action == b.action) return;
    }
    ranges_.push({start, b});
  }

  Place search(u32 low, u32 high) {
    if (high - low == 1) return target(ranges_[low].behaviour);
    const u32 middle = low + (high - low) / 2;
    const Place upper = search(middle, high);
    const Place lower = search(low, middle);
    return out_.branch(kJumpGreaterOrEqual, ranges_[middle].start, upper, lower);
  }

  Place target(const Behaviour& b) {
    if (!b.conditional) return out_.result(b.action);
    Place place = out_.result(profile_.default_action);
    for (u32 i = b.first + b.count; i-- != b.first;) place = rule(applied_[i], place);
    return place;
  }

  Place rule(const Applied& a, Place otherwise) {
    const Rule& rule = profile_.rules[a.rule];
    Place place = out_.result(rule.action);
    if (a.multiplexed) {
      // ipc(2) carries a version in the upper half of its first argument; socketcall(2) knows no such number.
      out_.branch(kJumpEqual, a.sub_call, place, otherwise);
      out_.emit(kAnd, 0xffff);
      return out_.load(argument_low(0));
    }
    for (u32 i = rule.condition_count; i-- != 0;)
      place = condition(profile_.conditions[rule.first_condition + i], place, otherwise);
    return place;
  }

  // Compares one argument; 64 bits as two words, the upper one first.
  Place condition(const Condition& c, Place yes, Place no) {
    switch (c.op) {
      case Operator::kNotEqual:
        return equal(c, UINT64_MAX, no, yes);
      case Operator::kEqual:
        return equal(c, UINT64_MAX, yes, no);
      case Operator::kMaskedEqual:
        return equal(c, c.mask, yes, no);
      case Operator::kGreater:
        return greater(c, kJumpGreater, yes, no);
      case Operator::kGreaterOrEqual:
        return greater(c, kJumpGreaterOrEqual, yes, no);
      case Operator::kLess:
        return greater(c, kJumpGreaterOrEqual, no, yes);
      case Operator::kLessOrEqual:
        return greater(c, kJumpGreater, no, yes);
    }
    return no;
  }

  Place equal(const Condition& c, u64 mask, Place yes, Place no) {
    Place place = equal_word(argument_low(c.argument), static_cast<u32>(mask), static_cast<u32>(c.value), yes, no);
    const u32 high_mask = static_cast<u32>(mask >> 32);
    if (is_32_bit(abi_) || (high_mask == 0 && c.value >> 32 == 0)) return place;
    return equal_word(argument_high(c.argument), high_mask, static_cast<u32>(c.value >> 32), place, no);
  }

  Place equal_word(u32 offset, u32 mask, u32 value, Place yes, Place no) {
    out_.branch(kJumpEqual, value, yes, no);
    if (mask != UINT32_MAX) out_.emit(kAnd, mask);
    return out_.load(offset);
  }

  // `code` decides on the lower word where the upper ones are equal.
  Place greater(const Condition& c, u16 code, Place yes, Place no) {
    const u32 high = static_cast<u32>(c.value >> 32);
    out_.branch(code, static_cast<u32>(c.value), yes, no);
    const Place low = out_.load(argument_low(c.argument));
    if (is_32_bit(abi_)) return low;
    const Place not_greater = out_.branch(kJumpEqual, high, low, no);
    out_.branch(kJumpGreater, high, yes, not_greater);
    return out_.load(argument_high(c.argument));
  }

  const Profile& profile_;
  const SyscallAbi abi_;
  Assembler& out_;
  Vec<Behind> behind_;
  Vec<Applied> applied_;
  Vec<Range> ranges_;
};

}  // namespace

Status generate(const Profile& profile, u32 native, Vec<SockFilter>& out) {
  Assembler code;
  auto section = [&](SyscallAbi abi) { return Section(profile, abi, code).write(); };
  auto listed = [&](SyscallAbi abi) { return profile.abis[static_cast<u32>(abi)]; };
  const bool x86 = native == kAuditArchX86_64;
  const SyscallAbi narrow = x86 ? SyscallAbi::kX86 : SyscallAbi::kArm;

  Place other = code.result(kRetKillProcess);
  if (listed(narrow)) {
    const Place start = code.load(kOffsetNumber, section(narrow));
    other = code.branch(kJumpEqual, x86 ? kAuditArchI386 : kAuditArchArm, start, code.result(kRetKillProcess));
  }
  Place start = 0;
  if (x86) {
    Place x32 = code.result(kRetKillProcess);
    if (listed(SyscallAbi::kX32))
      x32 = section(SyscallAbi::kX32);
    else
      x32 = code.branch(kJumpEqual, kSkippedCall, code.result(profile.default_action), x32);
    start = code.branch(kJumpGreaterOrEqual, kX32Bit, x32, section(SyscallAbi::kX86_64));
  } else {
    start = section(SyscallAbi::kAarch64);
  }
  start = code.load(kOffsetNumber, start);
  code.load(kOffsetArchitecture, code.branch(kJumpEqual, native, start, other));
  if (code.size() > kSeccompMaxInstructions) {
    String why("linux.seccomp: needs ");
    why.append_u64(code.size()).append(" instructions, the kernel takes ").append_u64(kSeccompMaxInstructions);
    return Error(E2BIG, "seccomp", why);
  }
  code.copy_to(out);
  return ok();
}

}  // namespace caisson::seccomp
