// Where a filter has to be looked at: seccomp(2) programs compare words with constants, so between two neighbouring
// constants nothing changes. The points are each constant of the programs and of the profile, and its two neighbours,
// for call numbers and for both halves of arguments; and, if wanted, every number up to 1023 besides.
#pragma once

#include <stdlib.h>

#include "core/json.h"
#include "core/seccomp.h"
#include "core/syscalls.h"
#include "test/bpf_interpreter.h"

namespace caisson::test {

inline u32 audit_architecture(SyscallAbi abi) {
  constexpr u32 kArchitectures[] = {kAuditArchX86_64, kAuditArchI386, kAuditArchX86_64, kAuditArchAarch64,
                                    kAuditArchArm};
  return kArchitectures[static_cast<u32>(abi)];
}

inline bool runs_on(SyscallAbi abi, u32 native) {
  return (native == kAuditArchAarch64) == (abi == SyscallAbi::kAarch64 || abi == SyscallAbi::kArm);
}

template <typename T>
void sort_unique(Vec<T>& values) {
  if (values.empty()) return;
  qsort(values.data(), values.size(), sizeof(T), [](const void* a, const void* b) {
    const T x = *static_cast<const T*>(a), y = *static_cast<const T*>(b);
    return x < y ? -1 : static_cast<int>(x > y);
  });
  size_t kept = 1;
  for (size_t i = 1; i < values.size(); ++i)
    if (values[i] != values[kept - 1]) values[kept++] = values[i];
  while (values.size() > kept) values.pop();
}

class Points {
 public:
  Points(const JsonValue& profile, span<const SockFilter> ours, span<const SockFilter> theirs, bool every_number)
      : profile_(profile) {
    for (u32 n = 0; n < 1024; n += every_number ? 1 : 341) numbers_.push(n), numbers_.push(kX32Bit | n);
    for (u32 n : {0x0f0000u, 0x0f0001u, 0x0f0006u, 0x0fffffu, 0x3fffffffu, 0x7fffffffu, 0x80000000u, 0x80000001u,
                  0xbfffffffu, 0xc0000000u, 0xfffffffeu, 0xffffffffu})
      numbers_.push(n);
    for (const span<const SockFilter> program : {ours, theirs})
      for (const SockFilter& i : program)
        if ((i.code & 0x07) == 0x05 && i.code != 0x05)
          for (u32 n : {i.k - 1, i.k, i.k + 1}) numbers_.push(n);
    sort_unique(numbers_);
    const JsonValue& entries = profile["syscalls"];
    for (u32 e = 0; e < entries.size(); ++e)
      for (u32 n = 0; entries.at(e)["args"].size() != 0 && n < entries.at(e)["names"].size(); ++n)
        conditional_.push({syscall_index(entries.at(e)["names"].at(n).string_or({})), e});
  }

  const Vec<u32>& numbers() const { return numbers_; }

  // Calls `look` with the arguments that matter to call `number`. `limit` bounds their combinations.
  template <typename F>
  void arguments(SyscallAbi abi, u32 number, u32 limit, const F& look) const {
    Vec<u64> values[6];
    bool plain = true;
    for (const Conditional& c : conditional_) {
      if (c.call == kNoSyscall || syscall_number(abi, c.call) != number) continue;
      const JsonValue& conditions = profile_["syscalls"].at(c.entry)["args"];
      for (u32 i = 0; i < conditions.size(); ++i)
        near_condition(conditions.at(i), values[conditions.at(i)["index"].u64_or(0)]);
      plain = false;
    }
    if (abi == SyscallAbi::kX86 && (number == 102 || number == 117)) {
      plain = false;
      for (u64 n = 0; n < 26; ++n)
        for (u64 version : {u64{0}, u64{1} << 16, u64{0xffff0000}}) values[0].push(n | version);
    }
    u64 a[6] = {};
    look(a);
    for (u32 i = 0; i < 6; ++i) a[i] = ~u64{0} - i;
    look(a);
    if (plain) return;
    u64 combinations = 1;
    const u64 cut = abi == SyscallAbi::kX86_64 || abi == SyscallAbi::kAarch64 ? ~u64{0} : 0xffffffff;
    for (Vec<u64>& list : values) {
      if (list.empty()) list.push(0);
      for (u64& v : list) v &= cut;
      sort_unique(list);
      combinations *= list.size();
    }
    // All of them, or as many as the limit says, picked by a hash of their position.
    for (u64 i = 0; i < (combinations < limit ? combinations : limit); ++i) {
      u64 which = combinations < limit ? i : mix(i) % combinations;
      for (u32 k = 0; k < 6; ++k) {
        a[k] = values[k][which % values[k].size()];
        which /= values[k].size();
      }
      look(a);
    }
  }

 private:
  static u64 mix(u64 x) {  // splitmix64
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  }

  static void near_condition(const JsonValue& c, Vec<u64>& out) {
    constexpr u64 kHigh = u64{1} << 32;
    const u64 value = c["value"].u64_or(0);
    u64 centre = value;
    if (c["op"].string_or({}) == "SCMP_CMP_MASKED_EQ") {
      const u64 mask = value;
      centre = c["valueTwo"].u64_or(0) & mask;
      // Each bit of the mask by itself, a bit beside it, and all beside it.
      for (u32 bit = 0; bit < 64; ++bit)
        if ((mask >> bit & 1) != 0 || bit % 16 == 0) out.push(centre ^ u64{1} << bit);
      out.push(centre | ~mask);
      out.push(~centre);
    }
    for (u64 v : {centre - 1, centre, centre + 1, centre + kHigh, centre - kHigh, centre & 0xffffffff, centre ^ kHigh,
                  centre >> 32, centre << 32, (centre + kHigh) & ~u64{0xffffffff}, (centre - kHigh) | 0xffffffff,
                  u64{0}, ~u64{0}})
      out.push(v);
  }

  struct Conditional {
    u32 call;   // syscall_index()
    u32 entry;  // of the profile
  };

  const JsonValue& profile_;
  Vec<u32> numbers_;
  Vec<Conditional> conditional_;  // a pair for each name of an entry with conditions
};

}  // namespace caisson::test
