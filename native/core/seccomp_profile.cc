// From JSON to Profile: every name is known, every number in range.
#include "core/seccomp_profile.h"

namespace caisson::seccomp {

namespace {

constexpr u32 kMaxErrno = 4095;  // the kernel cuts larger ones to this
constexpr u32 kArguments = 6;

// Where in the document a message points: "linux.seccomp.syscalls[3].args[0].op".
String where(string_view base, u32 index) {
  String at(base);
  at.append('[').append_u64(index).append(']');
  return at;
}

String inside(string_view base, string_view member) {
  String at(base);
  at.append(member);
  return at;
}

Error refuse(string_view at, string_view why, string_view value = {}) {
  String text(at);
  text.append(": ").append(why);
  if (!value.empty()) text.append(' ').append(value);
  return Error(EINVAL, "seccomp", text);
}

Result<u32> one_of(span<const Word> words, const JsonValue& value, string_view at, string_view kind) {
  const string_view text = CAISSON_TRY(value.string(at));
  for (const Word& word : words)
    if (word.name == text) return word.value;
  String why("unknown ");
  return refuse(at, why.append(kind), text);
}

// The members of an array that may be absent.
Result<u32> count(const JsonValue& array, string_view at) {
  if (!array.present()) return 0u;
  if (!array.is_array()) return refuse(at, "must be an array");
  return array.size();
}

// The action with its data: the errno, or the message to a tracer. Without one both are EPERM, as in libseccomp's
// users.
Result<u32> read_action(const JsonValue& action, string_view action_at, const JsonValue& data, string_view data_at) {
  constexpr u32 kEperm = 1;
  const u32 base = CAISSON_TRY(one_of(kActions, action, action_at, "action"));
  const bool takes_data = base == kRetErrno || base == kRetTrace;
  if (!data.present()) return takes_data ? base | kEperm : base;
  if (!takes_data) return refuse(data_at, "is not for action", action.string_or({}));
  const u32 number = CAISSON_TRY(data.u32_value(data_at));
  if (number > (base == kRetErrno ? kMaxErrno : UINT16_MAX)) return refuse(data_at, "out of range");
  return base | number;
}

Result<Condition> read_condition(const JsonValue& arg, string_view at) {
  const String index_at = inside(at, ".index");
  Condition c;
  const u32 index = CAISSON_TRY(arg["index"].u32_value(index_at));
  if (index >= kArguments) return refuse(index_at, "a system call has arguments 0 to 5");
  c.argument = static_cast<u8>(index);
  c.op = static_cast<Operator>(CAISSON_TRY(one_of(kOperators, arg["op"], inside(at, ".op"), "operator")));
  c.value = CAISSON_TRY(arg["value"].u64_value(inside(at, ".value")));
  const JsonValue& two = arg["valueTwo"];
  const u64 second = two.present() ? CAISSON_TRY(two.u64_value(inside(at, ".valueTwo"))) : 0;
  if (c.op == Operator::kMaskedEqual) {
    c.mask = c.value;
    c.value = second & c.mask;
  }
  return c;
}

// One rule, or one for each condition where an argument is tested twice.
void add_rules(Profile& profile, u32 action, const Vec<Condition>& conditions) {
  u32 seen = 0;
  bool twice = false;
  for (const Condition& c : conditions) {
    twice |= (seen >> c.argument & 1) != 0;
    seen |= 1u << c.argument;
  }
  const u32 first = static_cast<u32>(profile.conditions.size());
  const u32 total = static_cast<u32>(conditions.size());
  for (const Condition& c : conditions) profile.conditions.push(c);
  if (!twice) {
    profile.rules.push({action, first, total});
    return;
  }
  for (u32 i = 0; i < total; ++i) profile.rules.push({action, first + i, 1});
}

Status read_entry(const JsonValue& entry, string_view at, Profile& profile) {
  constexpr u32 kMaxConditions = 64;
  const String action_at = inside(at, ".action");
  const String names_at = inside(at, ".names");
  const String args_at = inside(at, ".args");
  const u32 action = CAISSON_TRY(read_action(entry["action"], action_at, entry["errnoRet"], inside(at, ".errnoRet")));
  const u32 names = CAISSON_TRY(count(entry["names"], names_at));
  if (names == 0) return refuse(names_at, "must name a system call");
  const u32 args = CAISSON_TRY(count(entry["args"], args_at));
  if (args > kMaxConditions) return refuse(args_at, "too many conditions");
  Vec<Condition> conditions;
  for (u32 i = 0; i < args; ++i) conditions.push(CAISSON_TRY(read_condition(entry["args"].at(i), where(args_at, i))));

  const u32 first = static_cast<u32>(profile.rules.size());
  add_rules(profile, action, conditions);
  for (u32 i = 0; i < names; ++i) {
    const JsonValue& given = entry["names"].at(i);
    // The place is worked out for an error only: names are many.
    const string_view name = given.is_string() ? given.string_or({}) : CAISSON_TRY(given.string(where(names_at, i)));
    if (action == kRetNotify && name == "write") return refuse(action_at, "SCMP_ACT_NOTIFY cannot hold back write");
    const u32 call = syscall_index(name);
    if (call == kNoSyscall) continue;
    for (u32 rule = first; rule < profile.rules.size(); ++rule) profile.named.push({call, rule});
  }
  profile.notify |= action == kRetNotify;
  return ok();
}

}  // namespace

Result<Profile> read_profile(const JsonValue& s) {
  // Bounds the work of the generator: its program is bounded anyway, and no real profile comes near.
  constexpr size_t kMaxNamedRules = 32768;
  Profile profile;
  if (!s.is_object()) return refuse("linux.seccomp", "must be an object");
  profile.default_action = CAISSON_TRY(read_action(s["defaultAction"], "linux.seccomp.defaultAction",
                                                   s["defaultErrnoRet"], "linux.seccomp.defaultErrnoRet"));
  if (profile.default_action == kRetNotify)
    return refuse("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default");

  const u32 architectures = CAISSON_TRY(count(s["architectures"], "linux.seccomp.architectures"));
  for (u32 i = 0; i < architectures; ++i) {
    const u32 abi = CAISSON_TRY(
        one_of(kArchitectures, s["architectures"].at(i), where("linux.seccomp.architectures", i), "architecture"));
    if (abi != kForeignAbi) profile.abis[abi] = true;
  }
  const u32 flags = CAISSON_TRY(count(s["flags"], "linux.seccomp.flags"));
  for (u32 i = 0; i < flags; ++i)
    profile.flags |= CAISSON_TRY(one_of(kFlags, s["flags"].at(i), where("linux.seccomp.flags", i), "flag"));

  const u32 entries = CAISSON_TRY(count(s["syscalls"], "linux.seccomp.syscalls"));
  for (u32 i = 0; i < entries; ++i) {
    CAISSON_TRY(read_entry(s["syscalls"].at(i), where("linux.seccomp.syscalls", i), profile));
    if (profile.named.size() > kMaxNamedRules) return Error(E2BIG, "seccomp", "linux.seccomp.syscalls: too many rules");
  }
  return profile;
}

}  // namespace caisson::seccomp
