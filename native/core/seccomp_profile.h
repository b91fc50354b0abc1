// A seccomp profile as read and checked, before it becomes instructions. Private to the compiler.
#pragma once

#include "core/base.h"
#include "core/json.h"
#include "core/result.h"
#include "core/seccomp.h"
#include "core/seccomp_words.h"
#include "core/syscalls.h"
#include "core/text.h"

namespace caisson::seccomp {

struct Condition {
  u8 argument = 0;  // 0..5
  Operator op = Operator::kEqual;
  u64 value = 0;
  u64 mask = 0;  // kMaskedEqual only: (argument & mask) == value; value has no bit outside of it
};

// An action with the conditions that must all hold; no condition: always.
struct Rule {
  u32 action = 0;
  u32 first_condition = 0;  // of Profile::conditions
  u32 condition_count = 0;
};

// A rule under one system call, in the order of the profile.
struct NamedRule {
  u32 call = 0;  // syscall_index()
  u32 rule = 0;  // of Profile::rules
};

struct Profile {
  u32 default_action = 0;
  u32 flags = 0;
  bool notify = false;
  bool abis[kSyscallAbis] = {};  // as listed; the native one is the compiler's business
  Vec<Condition> conditions;
  Vec<Rule> rules;
  Vec<NamedRule> named;
};

Result<Profile> read_profile(const JsonValue& linux_seccomp);

// The order in which the kernel prefers actions: the lower, the stricter.
inline i32 strictness(u32 action) { return static_cast<i32>(action & kRetActionMask); }

// Appends the instructions of one whole filter.
Status generate(const Profile& profile, u32 native, Vec<SockFilter>& out);

}  // namespace caisson::seccomp
