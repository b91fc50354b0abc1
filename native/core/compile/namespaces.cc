// Namespaces and id mappings: runtime-spec config-linux.md "Namespaces", "User namespace mappings".
#include "core/compile/context.h"

namespace caisson::compile {

namespace {

constexpr u32 kTypes = static_cast<u32>(NamespaceType::kCount);
constexpr u32 kMappingsMax = 340;                // lines of uid_map since Linux 4.15, user_namespaces(7)
constexpr u32 kHostnameMax = 64;                 // __NEW_UTS_LEN
constexpr i64 kClockSecondsMax = 9'223'372'036;  // KTIME_SEC_MAX

Result<NamespaceType> type_of(const Property& property) {
  const string_view word = CAISSON_TRY(property.text(kNameMax));
  for (u32 i = 0; i < kTypes; ++i)
    if (word == namespace_name(static_cast<NamespaceType>(i))) return static_cast<NamespaceType>(i);
  return property.invalid(word, "is not a type of namespace");
}

// Types a pod holds for its containers to join.
bool pod_has(NamespaceType type) {
  return type == NamespaceType::kUser || type == NamespaceType::kNetwork || type == NamespaceType::kIpc ||
         type == NamespaceType::kUts || type == NamespaceType::kPid;
}

Status compile_namespace(Context& context, const Property& entry, bool (&seen)[kTypes]) {
  CAISSON_TRY(entry.object());
  const NamespaceType type = CAISSON_TRY(type_of(entry["type"]));
  if (std::exchange(seen[static_cast<u32>(type)], true))
    return entry["type"].invalid(namespace_name(type), "is listed twice");
  NamespaceEntry& ns = context.plan.ns(type);
  const Property path = entry["path"];
  const string_view given = CAISSON_TRY(path.text_or({}, kPathMax));
  if (given.empty()) {
    ns.mode = NamespaceMode::kNew;
  } else if (given == "caisson:pod") {
    if (!pod_has(type)) return path.invalid(given, "is not for this type: pods have user, network, ipc, uts and pid");
    ns.mode = NamespaceMode::kPod;
  } else if (given == "caisson:target") {
    if (type != NamespaceType::kPid) return path.invalid(given, "is for pid namespaces only");
    ns.mode = NamespaceMode::kTarget;
  } else {
    CAISSON_TRY(path.absolute_path());
    ns.mode = NamespaceMode::kPath;
    ns.path = context.plan.string(given);
  }
  return ok();
}

bool overlap(u32 a, u32 b, u32 a_size, u32 b_size) { return a < u64{b} + b_size && b < u64{a} + a_size; }

// The container is put together by its own uid 0 and gid 0, so both must exist in it.
Status require_zero(const Property& list, const Vec<IdMapping>& map) {
  for (const IdMapping& m : map)
    if (m.container == 0) return ok();
  return list.error(ENOTSUP, "id 0 of the container, which puts it together, is not mapped");
}

Status compile_user_namespace(Context& context, const Property& linux) {
  const Property uids = linux["uidMappings"];
  const Property gids = linux["gidMappings"];
  CAISSON_TRY(compile_id_mappings(uids, context.uid_map));
  CAISSON_TRY(compile_id_mappings(gids, context.gid_map));
  const NamespaceMode mode = context.mode(NamespaceType::kUser);
  if (mode == NamespaceMode::kHost) {
    if (!context.uid_map.empty()) return uids.error(EINVAL, "needs a user namespace in linux.namespaces");
    if (!context.gid_map.empty()) return gids.error(EINVAL, "needs a user namespace in linux.namespaces");
    return ok();
  }
  if (mode != NamespaceMode::kNew) return ok();
  if (context.uid_map.empty()) return uids.error(EINVAL, "is missing: a new user namespace needs a mapping");
  if (context.gid_map.empty()) return gids.error(EINVAL, "is missing: a new user namespace needs a mapping");
  CAISSON_TRY(require_zero(uids, context.uid_map));
  CAISSON_TRY(require_zero(gids, context.gid_map));
  for (const IdMapping& m : context.uid_map) context.plan.add(Section::kUidMap, m);
  for (const IdMapping& m : context.gid_map) context.plan.add(Section::kGidMap, m);
  return ok();
}

Status compile_time_offset(const Property& offset, TimeOffset& out) {
  CAISSON_TRY(offset.object());
  if (!offset.present()) return ok();
  out.present = 1;
  const Property seconds = offset["secs"];
  const Property nanoseconds = offset["nanosecs"];
  if (seconds.present()) out.seconds = CAISSON_TRY(seconds.integer(-kClockSecondsMax, kClockSecondsMax));
  if (nanoseconds.present()) out.nanoseconds = static_cast<u32>(CAISSON_TRY(nanoseconds.natural(999'999'999)));
  return ok();
}

Status compile_time_offsets(Context& context, const Property& offsets) {
  const u32 count = CAISSON_TRY(offsets.map(64));
  PlanHeader& head = context.plan.head();
  for (u32 i = 0; i < count; ++i) {
    const Property clock = offsets.at(i);
    if (clock.name() != "monotonic" && clock.name() != "boottime")
      return clock.error(EINVAL, "is not a clock: a time namespace has monotonic and boottime");
    CAISSON_TRY(compile_time_offset(clock, clock.name() == "monotonic" ? head.monotonic : head.boottime));
  }
  if (head.monotonic.present == 0 && head.boottime.present == 0) return ok();
  switch (context.mode(NamespaceType::kTime)) {
    case NamespaceMode::kNew:
      return ok();
    case NamespaceMode::kHost:
      return offsets.error(EINVAL, "needs a time namespace in linux.namespaces");
    default:
      return offsets.error(EINVAL, "the time namespace that is joined has its offsets already");
  }
}

Result<string_view> uts_name(const Property& property, string_view shown) {
  const string_view name = CAISSON_TRY(property.text_or({}, kHostnameMax));
  for (const char c : name)
    if (static_cast<u8>(c) < 0x21 || c == 0x7f || c == '/') return property.invalid(name, shown);
  return name;
}

}  // namespace

Status compile_id_mappings(const Property& list, Vec<IdMapping>& out) {
  const u32 count = CAISSON_TRY(list.list(kMappingsMax));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = list.at(i);
    CAISSON_TRY(entry.object());
    IdMapping m;
    m.container = static_cast<u32>(CAISSON_TRY(entry["containerID"].natural(UINT32_MAX - 1)));
    m.host = static_cast<u32>(CAISSON_TRY(entry["hostID"].natural(UINT32_MAX - 1)));
    m.size = static_cast<u32>(CAISSON_TRY(entry["size"].natural(UINT32_MAX)));
    if (m.size == 0) return entry["size"].error(EINVAL, "is 0");
    // 2^32-1 is "no id" to setresuid(2); the kernel refuses a range that reaches it.
    if (m.container > UINT32_MAX - m.size || m.host > UINT32_MAX - m.size)
      return entry["size"].error(EINVAL, "the range ends beyond the last id");
    for (const IdMapping& other : out)
      if (overlap(m.container, other.container, m.size, other.size) || overlap(m.host, other.host, m.size, other.size))
        return entry.error(EINVAL, "overlaps another mapping");
    out.push(m);
  }
  return ok();
}

Status compile_namespaces(Context& context, const Property& spec, const Property& linux) {
  bool seen[kTypes] = {};
  const Property list = linux["namespaces"];
  const u32 count = CAISSON_TRY(list.list(64));
  for (u32 i = 0; i < count; ++i) CAISSON_TRY(compile_namespace(context, list.at(i), seen));
  // The root of a user namespace may mount nothing in a namespace that it does not own (mount_namespaces(7)).
  if (context.mode(NamespaceType::kMount) != NamespaceMode::kNew &&
      context.mode(NamespaceType::kUser) != NamespaceMode::kHost)
    return list.error(EINVAL, "a container with a user namespace needs a new mount namespace");
  CAISSON_TRY(compile_user_namespace(context, linux));
  CAISSON_TRY(compile_time_offsets(context, linux["timeOffsets"]));
  return compile_hostname(context, spec);
}

Status compile_hostname(Context& context, const Property& spec) {
  const Property host = spec["hostname"];
  const Property domain = spec["domainname"];
  const string_view hostname = CAISSON_TRY(uts_name(host, "is not a host name"));
  const string_view domainname = CAISSON_TRY(uts_name(domain, "is not a domain name"));
  if (hostname.empty() && domainname.empty()) return ok();
  const Property& named = hostname.empty() ? domain : host;
  switch (context.mode(NamespaceType::kUts)) {
    case NamespaceMode::kNew:
    case NamespaceMode::kPath:
      break;
    case NamespaceMode::kPod:
      return named.error(EINVAL, "the uts namespace is the pod's, which has a name already");
    default:
      return named.error(EINVAL, "needs a uts namespace of its own: it would rename the host");
  }
  context.plan.head().hostname = context.plan.string(hostname);
  context.plan.head().domainname = context.plan.string(domainname);
  context.domainname = domainname;
  return ok();
}

}  // namespace caisson::compile
