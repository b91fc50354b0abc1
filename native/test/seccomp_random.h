// Profiles by chance, the same for the same seed: few calls, so that rules meet, and values at the edges of words.
#pragma once

#include "core/syscalls.h"
#include "core/text.h"
#include "test/seccomp_reference.h"

namespace caisson::test {

class RandomProfile {
 public:
  // `overlapping`: one call may have several rules with conditions. Without, what libseccomp makes of it is defined.
  RandomProfile(u64 seed, bool overlapping) : state_(seed), overlapping_(overlapping) { state_ = next(); }

  String text() {
    String out("{\"defaultAction\":");
    action(out, "defaultErrnoRet", false);
    out.append(",\"architectures\":[");
    static constexpr const char* kArchitectures[] = {"X86_64", "X86", "X32", "AARCH64", "ARM", "S390X"};
    bool first = true;
    for (const char* name : kArchitectures) {
      if (below(3) == 0) continue;
      out.append(first ? "\"SCMP_ARCH_" : ",\"SCMP_ARCH_").append(name).append('"');
      first = false;
    }
    out.append("],\"syscalls\":[");
    const u32 entries = 1 + below(12);
    for (u32 i = 0; i < entries; ++i) entry(out.append(i == 0 ? "{" : ",{"));
    out.append("]}");
    return out;
  }

 private:
  u64 next() {  // splitmix64
    u64 x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  }
  u32 below(u32 n) { return static_cast<u32>(next() % n); }

  void action(String& out, const char* errno_key, bool notify) {
    static constexpr const char* kNames[] = {"ERRNO", "ERRNO", "ERRNO",        "ALLOW",       "ALLOW", "LOG",
                                             "TRAP",  "KILL",  "KILL_PROCESS", "KILL_THREAD", "TRACE", "NOTIFY"};
    const string_view name = kNames[below(notify ? 12 : 11)];
    out.append("\"SCMP_ACT_").append(name).append('"');
    if ((name == "ERRNO" || name == "TRACE") && below(2) == 0) {
      static constexpr u32 kData[] = {0, 1, 2, 38, 4094};
      out.append(",\"").append(errno_key).append("\":").append_u64(kData[below(5)]);
    }
  }

  void entry(String& out) {
    const u32 arguments = below(2) == 0 ? 0 : 1 + below(4);
    const bool conditional = arguments != 0;
    out.append("\"names\":[");
    const u32 names = 1 + below(4);
    for (u32 i = 0; i < names; ++i) name(out.append(i == 0 ? "\"" : ",\""), conditional).append('"');
    // write(2) may be among the names, which NOTIFY excludes.
    out.append("],\"action\":");
    action(out, "errnoRet", !wrote_);
    wrote_ = false;
    if (!conditional) return void(out.append('}'));
    out.append(",\"args\":[");
    u32 used = 0;
    for (u32 i = 0; i < arguments; ++i) {
      u32 index = below(6);
      // Mostly every argument once; a repeated one splits the rule, which makes several of it.
      while ((used >> index & 1) != 0 && (!overlapping_ || below(8) != 0)) index = below(6);
      used |= 1u << index;
      condition(out.append(i == 0 ? "{" : ",{"), index);
    }
    out.append("]}");
  }

  String& name(String& out, bool conditional) {
    static constexpr const char* kPool[] = {"read",    "write",           "close",   "clone",  "socket",      "bind",
                                            "accept4", "socketcall",      "ipc",     "semget", "shmctl",      "ioctl",
                                            "mmap",    "clock_gettime64", "openat2", "statx",  "no_such_call"};
    for (;;) {
      const u32 pick = below(20);
      const u32 index = pick < 17 ? syscall_index(kPool[pick]) : below(syscall_count());
      if (index == kNoSyscall) return out.append("no_such_call");
      const string_view text = syscall_name(index);
      if (!overlapping_) {
        // The multiplexers of x86 collect the rules of all calls behind them: one with conditions, or any without.
        const bool multiplexed = Reference::multiplexed(text) || text == "socketcall" || text == "ipc";
        if (multiplexed && (conditional ? multiplexed_ : multiplexed_conditional_)) continue;
        if (conditional && taken_[index]) continue;
        taken_[index] |= conditional;
        multiplexed_ |= multiplexed;
        multiplexed_conditional_ |= multiplexed && conditional;
      }
      wrote_ |= text == "write";
      return out.append(text);
    }
  }

  void condition(String& out, u32 index) {
    static constexpr const char* kOperators[] = {"NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"};
    const string_view op = kOperators[below(7)];
    out.append("\"index\":").append_u64(index).append(",\"op\":\"SCMP_CMP_").append(op).append("\",\"value\":");
    out.append_u64(value());
    if (op == "MASKED_EQ" || below(8) == 0) out.append(",\"valueTwo\":").append_u64(value());
    out.append('}');
  }

  u64 value() {
    static constexpr u64 kEdges[] = {0,
                                     1,
                                     2,
                                     5,
                                     0x7fffffff,
                                     0x80000000,
                                     0xfffffffe,
                                     0xffffffff,
                                     0x100000000,
                                     0x100000001,
                                     0x1ffffffff,
                                     0x200000000,
                                     0xffffffff00000000,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     ~u64{0} - 1,
                                     ~u64{0}};
    return below(6) == 0 ? next() : kEdges[below(17)];
  }

  u64 state_;
  const bool overlapping_;
  bool wrote_ = false;
  bool taken_[1024] = {};
  bool multiplexed_ = false;
  bool multiplexed_conditional_ = false;
};

}  // namespace caisson::test
