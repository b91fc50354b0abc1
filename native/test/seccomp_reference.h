// What a profile says about one call, worked out rule by rule from the JSON text, as the OCI runtime specification and
// seccomp(2) put it: slow, obvious and without a line of the compiler, which is held against it. It speaks two
// dialects: ours, and that of libseccomp as runc and crun drive it. Where they differ the verdict says why.
#pragma once

#include "core/base.h"
#include "core/json.h"
#include "core/seccomp.h"
#include "core/syscalls.h"
#include "test/bpf_interpreter.h"

namespace caisson::test {

// Reasons for a verdict. Those after kCondition are ours, not libseccomp's.
enum class Reason : u8 {
  kDefault,
  kRule,
  kCondition,
  kForeign,      // a call of an architecture or ABI outside of the profile: the process dies; libseccomp: the thread
  kNewer,        // ENOSYS for what is newer than the profile; runc puts a filter of its own before libseccomp's
  kMultiplexed,  // socketcall(2), ipc(2): libseccomp compares what remains of the conditions with the multiplexer's own
                 // arguments, so that an ALLOW for one domain of socket(2) allows each through socketcall(2)
};

struct Verdict {
  u32 action = 0;
  Reason reason = Reason::kDefault;
  u32 conditional = 0;  // rules of this number that have conditions
};

class Reference {
 public:
  // The number of `name` (with the x32 bit), or kNoSyscall.
  using Numbers = u32 (*)(SyscallAbi abi, string_view name);

  static Reference ours(const JsonValue& profile, u32 native) {
    return Reference(profile, native, false, [](SyscallAbi abi, string_view name) {
      const u32 index = syscall_index(name);
      return index == kNoSyscall ? kNoSyscall : syscall_number(abi, index);
    });
  }
  static Reference libseccomp(const JsonValue& profile, u32 native, Numbers numbers) {
    return Reference(profile, native, true, numbers);
  }

  Verdict judge(const SeccompData& data) const {
    SyscallAbi abi = SyscallAbi::kX86_64;
    if (!abi_of(data, abi)) return {libseccomp_ ? 0u : 0x80000000u, Reason::kForeign, 0};
    // A tracer's "skip this call", whatever the ABI.
    if (data.number == UINT32_MAX) return {default_action_, Reason::kDefault, 0};

    u32 conditional = 0;
    Verdict found{default_action_, Reason::kDefault, 0};
    bool decided = false;
    const bool multiplexer = abi == SyscallAbi::kX86 && (data.number == kSocketcall || data.number == kIpcCall);
    const JsonValue& entries = profile_["syscalls"];
    u32 at = 0;
    for (u32 e = 0; e < entries.size(); ++e) {
      const JsonValue& entry = entries.at(e);
      const JsonValue& names = entry["names"];
      const u32 action = actions_[e];
      const u32 first = std::exchange(at, at + names.size());
      if (action == default_action_) continue;
      for (u32 n = 0; n < names.size(); ++n) {
        if (numbers_[static_cast<u32>(abi)][first + n] == data.number) {
          if (!has_conditions(entry, abi)) {
            // Outranks whatever was found so far but another of its kind.
            if (found.reason != Reason::kRule) found = {action, Reason::kRule, 0};
            decided = true;
            continue;
          }
          conditional += any_suffices(entry) ? entry["args"].size() : 1;
          if (!decided && holds(entry, abi, data)) found = {action, Reason::kCondition, 0}, decided = true;
        }
        const string_view name = multiplexer ? names.at(n).string_or({}) : string_view();
        if (multiplexer && behind(data.number == kIpcCall, name) != 0) {
          conditional += any_suffices(entry) ? entry["args"].size() : 1;
          if (!decided && multiplexed_holds(entry, action, data, name))
            found = {action, Reason::kMultiplexed, 0}, decided = true;
        }
      }
    }
    if (!decided && !libseccomp_ && newer(abi, data.number)) found = {0x00050000 | 38, Reason::kNewer, 0};
    found.conditional = conditional;
    return found;
  }

  static u32 action_of(const JsonValue& word, const JsonValue& errno_ret) {
    const string_view name = word.string_or({});
    const u32 data = errno_ret.present() ? static_cast<u32>(errno_ret.u64_or(0)) : 1;  // EPERM
    if (name == "SCMP_ACT_ALLOW") return 0x7fff0000;
    if (name == "SCMP_ACT_LOG") return 0x7ffc0000;
    if (name == "SCMP_ACT_TRACE") return 0x7ff00000 | data;
    if (name == "SCMP_ACT_NOTIFY") return 0x7fc00000;
    if (name == "SCMP_ACT_ERRNO") return 0x00050000 | data;
    if (name == "SCMP_ACT_TRAP") return 0x00030000;
    if (name == "SCMP_ACT_KILL_PROCESS") return 0x80000000;
    return 0;  // SCMP_ACT_KILL, SCMP_ACT_KILL_THREAD
  }

  // The entry tests one argument more than once: then any of its tests suffices, as in runc and crun.
  static bool any_suffices(const JsonValue& entry) {
    for (u32 i = 0; i < entry["args"].size(); ++i)
      for (u32 j = 0; j < i; ++j)
        if (entry["args"].at(i)["index"].u64_or(0) == entry["args"].at(j)["index"].u64_or(0)) return true;
    return false;
  }

  // A call that x86 has behind socketcall(2) or ipc(2).
  static bool multiplexed(string_view name) { return behind(false, name) != 0 || behind(true, name) != 0; }

 private:
  Reference(const JsonValue& profile, u32 native, bool libseccomp, Numbers numbers)
      : profile_(profile),
        native_(native),
        libseccomp_(libseccomp),
        default_action_(action_of(profile["defaultAction"], profile["defaultErrnoRet"])) {
    for (u32 e = 0; e < profile["syscalls"].size(); ++e)
      actions_.push(action_of(profile["syscalls"].at(e)["action"], profile["syscalls"].at(e)["errnoRet"]));
    for (u32 abi = 0; abi < kSyscallAbis; ++abi) {
      if ((native == kAuditArchAarch64) != (abi >= static_cast<u32>(SyscallAbi::kAarch64))) continue;
      for (u32 e = 0; e < profile["syscalls"].size(); ++e) {
        const JsonValue& names = profile["syscalls"].at(e)["names"];
        for (u32 n = 0; n < names.size(); ++n)
          numbers_[abi].push(numbers(static_cast<SyscallAbi>(abi), names.at(n).string_or({})));
      }
    }
  }

  bool lists(string_view architecture) const {
    for (u32 i = 0; i < profile_["architectures"].size(); ++i)
      if (profile_["architectures"].at(i).string_or({}) == architecture) return true;
    return false;
  }

  // False for an ABI that the filter does not serve.
  bool abi_of(const SeccompData& data, SyscallAbi& abi) const {
    if (native_ == kAuditArchX86_64 && data.architecture == kAuditArchX86_64) {
      const bool x32 = data.number >= kX32Bit && data.number != UINT32_MAX;
      abi = x32 ? SyscallAbi::kX32 : SyscallAbi::kX86_64;
      return !x32 || lists("SCMP_ARCH_X32");
    }
    if (native_ == kAuditArchX86_64 && data.architecture == kAuditArchI386) {
      abi = SyscallAbi::kX86;
      return lists("SCMP_ARCH_X86");
    }
    if (native_ == kAuditArchAarch64 && data.architecture == kAuditArchAarch64) {
      abi = SyscallAbi::kAarch64;
      return true;
    }
    abi = SyscallAbi::kArm;
    return native_ == kAuditArchAarch64 && data.architecture == kAuditArchArm && lists("SCMP_ARCH_ARM");
  }

  // Arguments of 32-bit ABIs are 32 bits wide.
  static u64 width(SyscallAbi abi) {
    return abi == SyscallAbi::kX86_64 || abi == SyscallAbi::kAarch64 ? ~u64{0} : 0xffffffff;
  }

  static bool condition_holds(const JsonValue& condition, SyscallAbi abi, u64 argument) {
    const u64 given = argument & width(abi);
    const u64 first = condition["value"].u64_or(0) & width(abi);
    const u64 second = condition["valueTwo"].u64_or(0);
    const string_view op = condition["op"].string_or({});
    if (op == "SCMP_CMP_NE") return given != first;
    if (op == "SCMP_CMP_LT") return given < first;
    if (op == "SCMP_CMP_LE") return given <= first;
    if (op == "SCMP_CMP_EQ") return given == first;
    if (op == "SCMP_CMP_GE") return given >= first;
    if (op == "SCMP_CMP_GT") return given > first;
    return (given & first) == (second & first);  // SCMP_CMP_MASKED_EQ
  }

  // A mask without bits compares nothing: no condition.
  static bool compares(const JsonValue& condition, SyscallAbi abi) {
    return condition["op"].string_or({}) != "SCMP_CMP_MASKED_EQ" || (condition["value"].u64_or(0) & width(abi)) != 0;
  }

  static bool has_conditions(const JsonValue& entry, SyscallAbi abi) {
    bool all = false;
    for (u32 i = 0; i < entry["args"].size(); ++i) {
      const bool one = compares(entry["args"].at(i), abi);
      if (!one && any_suffices(entry)) return false;
      all |= one;
    }
    return all;
  }

  static bool holds(const JsonValue& entry, SyscallAbi abi, const SeccompData& data) {
    const JsonValue& conditions = entry["args"];
    const bool any = any_suffices(entry);
    for (u32 i = 0; i < conditions.size(); ++i) {
      const bool one = condition_holds(conditions.at(i), abi, data.arguments[conditions.at(i)["index"].u64_or(0)]);
      if (one == any) return any;
    }
    return !any;
  }

  // <linux/net.h>, <linux/ipc.h>: the number of `name` behind the multiplexer, 0 for none. The numbers between have no
  // name, which is not the empty one.
  static u32 behind(bool ipc, string_view name) {
    static constexpr const char* kSocket[] = {
        "",           "socket",  "bind",    "connect",  "listen",   "accept",   "getsockname", "getpeername",
        "socketpair", "send",    "recv",    "sendto",   "recvfrom", "shutdown", "setsockopt",  "getsockopt",
        "sendmsg",    "recvmsg", "accept4", "recvmmsg", "sendmmsg"};
    static constexpr const char* kIpc[] = {"", "semop", "semget", "semctl", "semtimedop", "",       "",      "", "",
                                           "", "",      "msgsnd", "msgrcv", "msgget",     "msgctl", "",      "", "",
                                           "", "",      "",       "shmat",  "shmdt",      "shmget", "shmctl"};
    const span<const char* const> names = ipc ? span<const char* const>(kIpc) : span<const char* const>(kSocket);
    if (name.empty()) return 0;
    for (u32 i = 1; i < names.size(); ++i)
      if (name == names[i]) return i;
    return 0;
  }

  static constexpr u32 kSocketcall = 102;
  static constexpr u32 kIpcCall = 117;

  bool multiplexed_holds(const JsonValue& entry, u32 action, const SeccompData& data, string_view name) const {
    const u32 which = static_cast<u32>(data.arguments[0]);
    const u32 number = behind(data.number == kIpcCall, name);
    if (libseccomp_) {
      // The first argument's condition is replaced, the others stay; upper bits (the version of ipc(2)) count.
      if (which != number) return false;
      const JsonValue& conditions = entry["args"];
      const bool any = any_suffices(entry);
      for (u32 i = 0; i < conditions.size(); ++i) {
        const u64 index = conditions.at(i)["index"].u64_or(0);
        const bool one = index == 0 || condition_holds(conditions.at(i), SyscallAbi::kX86, data.arguments[index]);
        if (one == any) return any;
      }
      return !any || conditions.size() == 0;
    }
    // A filter cannot see the arguments of the call behind: conditions hold when that is stricter, and fail when laxer.
    if ((which & 0xffff) != number) return false;
    return !has_conditions(entry, SyscallAbi::kX86) || stricter(action, default_action_);
  }

  // The kernel's order: KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW.
  static bool stricter(u32 a, u32 b) {
    auto rank = [](u32 action) {
      return (action & 0xffff0000) == 0x80000000 ? u64{0} : u64{1} + (action & 0xffff0000);
    };
    return rank(a) < rank(b);
  }

  bool newer(SyscallAbi abi, u32 number) const {
    const u32 base = abi == SyscallAbi::kX32 ? kX32Bit : 0;
    if ((default_action_ & 0xffff0000) != 0x00050000 || number < base + 403 || number > base + 511) return false;
    for (u32 named : numbers_[static_cast<u32>(abi)])
      if (named != kNoSyscall && named <= base + 511 && named >= number) return false;
    return true;
  }

  const JsonValue& profile_;
  const u32 native_;
  const bool libseccomp_;
  const u32 default_action_;
  Vec<u32> actions_;                // of every entry
  Vec<u32> numbers_[kSyscallAbis];  // of every name of every entry in turn
};

}  // namespace caisson::test
