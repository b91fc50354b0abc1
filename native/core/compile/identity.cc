// Who the process is: user and groups, capabilities, resource limits (runtime-spec config.md "User", "POSIX process",
// "Linux Process").
#include "core/capabilities.h"
#include "core/compile/context.h"
#include "core/rlimits.h"

namespace caisson::compile {

namespace {

constexpr u32 kGroupsMax = 256;  // of GateReport
constexpr u32 kUserTextMax = 256;
constexpr u64 kIdMax = UINT32_MAX - 1;  // 2^32-1 is "no change" to setresuid(2)
constexpr u64 kTextIdMax = INT32_MAX;   // what passwd's writers accept; beyond, tools disagree by sign (CVE-2024-40635)

bool mapped(const Vec<IdMapping>& map, u32 id) {
  if (map.empty()) return true;  // no user namespace, or one whose mappings the spec does not tell
  for (const IdMapping& m : map)
    if (id >= m.container && id - m.container < m.size) return true;
  return false;
}

Result<u32> id_of(const Property& property, const Vec<IdMapping>& map) {
  const u32 id = static_cast<u32>(CAISSON_TRY(property.natural(kIdMax)));
  if (!mapped(map, id)) return property.invalid(property.value().number_text(), "is not mapped in the user namespace");
  return id;
}

Result<u32> id_or_zero(const Property& property, const Vec<IdMapping>& map) {
  if (!property.present()) return 0u;
  return id_of(property, map);
}

Status compile_groups(Context& context, const Property& list) {
  const u32 count = CAISSON_TRY(list.list(kGroupsMax));
  for (u32 i = 0; i < count; ++i) context.plan.add(Section::kGroups, CAISSON_TRY(id_of(list.at(i), context.gid_map)));
  return ok();
}

bool digits(string_view text) {
  for (const char c : text)
    if (c < '0' || c > '9') return false;
  return !text.empty();
}

// One half of "user:group": a number, or a name to be looked up. What merely looks like a number is neither, so that
// no tool can read it as another id than the next one (CVE-2026-30892, CVE-2026-46680).
Status check_half(const Property& property, string_view text, string_view half) {
  if (digits(half)) {
    u64 id = 0;
    for (const char c : half) {
      id = id * 10 + static_cast<u64>(c - '0');
      if (id > kTextIdMax) return property.invalid(text, "names an id outside 0 to 2147483647");
    }
    return ok();
  }
  const char first = half.empty() ? '-' : half[0];
  if (first == '-' || first == '+' || (first >= '0' && first <= '9'))
    return property.invalid(text, "is not name[:group] or uid[:gid]");
  for (const char c : half)
    if (static_cast<u8>(c) < 0x21 || c == 0x7f || c == '/' || c == ',')
      return property.invalid(text, "is not name[:group] or uid[:gid]");
  return ok();
}

Status check_user_text(const Property& property, string_view text) {
  if (text.empty()) return ok();
  const size_t colon = text.find(':');
  CAISSON_TRY(check_half(property, text, part(text, 0, colon)));
  if (colon == string_view::npos) return ok();
  const string_view group = part(text, colon + 1);
  if (group.find(':') != string_view::npos) return property.invalid(text, "is not name[:group] or uid[:gid]");
  return check_half(property, text, group);
}

// The input's `user`, resolved by the stage that sees the assembled root.
Status compile_lookup(Context& context, const Property& user) {
  ProcessEntry& out = context.plan.process();
  out.flags |= kProcessLookupUser;
  const string_view text = CAISSON_TRY(user["text"].text_or({}, kUserTextMax));
  CAISSON_TRY(check_user_text(user["text"], text));
  out.user = context.plan.string(text);
  if (const Property gid = user["gid"]; gid.present()) {
    out.gid = CAISSON_TRY(id_of(gid, context.gid_map));
    out.flags |= kProcessGid;
  }
  CAISSON_TRY(compile_groups(context, user["supplementalGroups"]));
  const string_view policy = CAISSON_TRY(user["policy"].text_or("merge", kNameMax));
  if (policy == "strict")
    out.flags |= kProcessGroupsStrict;
  else if (policy != "merge")
    return user["policy"].invalid(policy, "is not merge or strict");
  if (CAISSON_TRY(user["setHome"].flag_or(false))) out.flags |= kProcessSetHome;
  return ok();
}

Status compile_user(Context& context, const Property& process, const Property& user) {
  ProcessEntry& out = context.plan.process();
  const Property given = CAISSON_TRY(process.object("user"));
  if (const Property umask = given["umask"]; umask.present()) {
    out.umask = static_cast<u32>(CAISSON_TRY(umask.natural(0777)));
    out.flags |= kProcessUmask;
  }
  CAISSON_TRY(user.object());
  if (user.present()) return compile_lookup(context, user);
  out.uid = CAISSON_TRY(id_or_zero(given["uid"], context.uid_map));
  out.gid = CAISSON_TRY(id_or_zero(given["gid"], context.gid_map));
  return compile_groups(context, given["additionalGids"]);
}

Status compile_capabilities(Context& context, const Property& sets) {
  static constexpr string_view kNames[kCapSets] = {"bounding", "effective", "inheritable", "permitted", "ambient"};
  ProcessEntry& out = context.plan.process();
  out.flags |= kProcessCapabilities;  // absent: none, as runc and crun have it; never those of whoever starts it
  for (u32 s = 0; s < kCapSets; ++s) {
    const Property list = sets[kNames[s]];
    const u32 count = CAISSON_TRY(list.list(128));
    for (u32 i = 0; i < count; ++i) {
      const string_view name = CAISSON_TRY(list.at(i).text(kNameMax));
      // "Any value which cannot be mapped to a relevant kernel interface MUST be logged as a warning."
      if (const int number = capability_number(name); number >= 0) {
        out.capabilities[s] |= u64{1} << number;
      } else {
        String text("'");
        append_shown(text, name);
        context.warn(list.at(i), text.append("' is not a capability known here"));
      }
    }
  }
  // The kernel keeps these rules whatever is asked for, capabilities(7); a set beyond them "cannot be granted".
  auto limit = [&](CapabilitySet set, u64 within, string_view text) {
    if ((out.capabilities[set] & ~within) == 0) return;
    out.capabilities[set] &= within;
    context.warn(sets[kNames[set]], text);
  };
  const u64(&set)[kCapSets] = out.capabilities;
  limit(kCapEffective, set[kCapPermitted], "holds capabilities that are not permitted; they are left out");
  limit(kCapInheritable, set[kCapBounding], "holds capabilities that are not in the bounding set; they are left out");
  limit(kCapAmbient, set[kCapPermitted] & set[kCapInheritable],
        "holds capabilities that are not both permitted and inheritable; they are left out");
  return ok();
}

Status compile_rlimits(Context& context, const Property& list) {
  CAISSON_TRY(list.list(64));
  const Result<Vec<Rlimit>> limits = parse_rlimits(list.value(), list.path());
  if (!limits) {
    String text;
    append_shown(text, limits.error().object, Error::kObjectMax);
    return Error(limits.error().err, "compile", text);
  }
  for (const Rlimit& each : *limits) {
    RlimitEntry record;
    record.resource = each.resource;
    record.soft = each.soft;
    record.hard = each.hard;
    context.plan.add(Section::kRlimits, record);
  }
  return ok();
}

}  // namespace

Status compile_identity(Context& context, const Property& process, const Property& user) {
  CAISSON_TRY(compile_user(context, process, user));
  CAISSON_TRY(compile_capabilities(context, CAISSON_TRY(process.object("capabilities"))));
  return compile_rlimits(context, process["rlimits"]);
}

}  // namespace caisson::compile
