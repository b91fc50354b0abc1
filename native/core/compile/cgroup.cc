// linux.resources as writes to the files of a cgroup v2 directory: runtime-spec config-linux.md "Control groups",
// kernel Documentation/admin-guide/cgroup-v2.rst. What v2 cannot express is an error.
#include "core/compile/cgroup_values.h"
#include "core/compile/limits.h"

namespace caisson::compile {

namespace {

constexpr u32 kValueMax = 4000;

// "max" for -1
String limit_text(i64 value) {
  String text;
  if (value < 0)
    text.append("max");
  else
    text.append_i64(value);
  return text;
}

// An absent integer and 0, which Go's writers leave behind for "unset", are no limit to set.
Result<i64> limit_or_zero(const Property& property) {
  if (!property.present()) return i64{0};
  return property.integer(-1, INT64_MAX);
}

// A list of CPUs or nodes as the kernel reads it: "0-3,7".
Result<string_view> list_text(const Property& property) {
  const string_view text = CAISSON_TRY(property.text_or({}, kValueMax));
  for (const char c : text)
    if ((c < '0' || c > '9') && c != '-' && c != ',') return property.invalid(text, "is not a list of numbers");
  return text;
}

Status memory_unsupported(const Property& memory) {
  // v2 charges kernel and socket memory to memory.max: without a limit of their own they are as the caller wants them.
  for (const string_view key : {"kernel", "kernelTCP"}) {
    const Property property = memory[key];
    if (CAISSON_TRY(limit_or_zero(property)) > 0)
      return property.error(ENOTSUP, "cgroup v2 has no limit for kernel memory alone");
  }
  if (memory["swappiness"].present())
    return memory["swappiness"].error(ENOTSUP, "cgroup v2 has no swappiness of a cgroup");
  if (CAISSON_TRY(memory["disableOOMKiller"].flag_or(false)))
    return memory["disableOOMKiller"].error(ENOTSUP, "cgroup v2 cannot disable the OOM killer");
  if (!CAISSON_TRY(memory["useHierarchy"].flag_or(true)))
    return memory["useHierarchy"].error(ENOTSUP, "cgroup v2 is always hierarchical");
  return ok();
}

// What is used is not to be cut by a limit that is asked for carefully. A new cgroup uses nothing.
Status check_usage(LimitWriter& out, const Property& memory, i64 limit, i64 swap) {
  if (!CAISSON_TRY(memory["checkBeforeUpdate"].flag_or(false))) return ok();
  const CgroupState& state = out.state();
  auto rejected = [](const Property& property, i64 wanted, u64 used) -> Status {
    String reason("rejecting limit ");
    reason.append_i64(wanted).append(", not above the ").append_u64(used).append(" bytes in use");
    return property.error(EBUSY, reason);
  };
  u64 used = state.memory_current;
  if (limit > 0 && used != 0 && static_cast<u64>(limit) <= used) return rejected(memory["limit"], limit, used);
  used += state.swap_current;
  if (swap > 0 && used != 0 && static_cast<u64>(swap) <= used) return rejected(memory["swap"], swap, used);
  return ok();
}

Status compile_memory(LimitWriter& out, const Property& memory) {
  CAISSON_TRY(memory_unsupported(memory));
  const i64 limit = CAISSON_TRY(limit_or_zero(memory["limit"]));
  const i64 swap = CAISSON_TRY(limit_or_zero(memory["swap"]));
  const i64 reservation = CAISSON_TRY(limit_or_zero(memory["reservation"]));
  CAISSON_TRY(check_usage(out, memory, limit, swap));
  const i64 beside = limit == 0 && out.updates() ? out.state().memory_max : limit;  // of which swap is the rest
  if (swap > 0) {
    if (beside == 0) return memory["swap"].error(EINVAL, "is memory plus swap, and needs linux.resources.memory.limit");
    if (swap < beside)
      return memory["swap"].error(EINVAL, "is memory plus swap, and less than linux.resources.memory.limit");
  }
  // v1 counts memory and swap together, v2 swap alone. A host without swap accounting has no file, and needs none to
  // grant no swap or any amount of it.
  if ((swap != 0 || limit == -1) && CAISSON_TRY(out.allowed(memory[swap != 0 ? "swap" : "limit"], "memory"))) {
    const i64 alone = swap <= 0 ? -1 : beside == -1 ? swap : swap - beside;
    out.put("memory.swap.max", limit_text(alone), alone <= 0 ? kCgroupIgnoreMissing : 0u);
  }
  if (limit != 0 && CAISSON_TRY(out.allowed(memory["limit"], "memory"))) out.put("memory.max", limit_text(limit));
  if (reservation != 0 && CAISSON_TRY(out.allowed(memory["reservation"], "memory")))
    out.put("memory.low", limit_text(reservation));
  return ok();
}

Status compile_bandwidth(LimitWriter& out, const Property& cpu) {
  const i64 quota = cpu["quota"].present() ? CAISSON_TRY(cpu["quota"].integer(INT64_MIN, INT64_MAX)) : 0;
  const u64 period = cpu["period"].present() ? CAISSON_TRY(cpu["period"].natural(UINT64_MAX)) : 0;
  // The burst goes first: the quota may not come to lie below the burst in force. Where it is itself above the quota in
  // force, it is written again afterwards (apply_limits).
  if (cpu["burst"].present()) {
    const u64 burst = CAISSON_TRY(cpu["burst"].natural(UINT64_MAX));
    if (quota > 0 && burst > static_cast<u64>(quota))
      return cpu["burst"].error(EINVAL, "is larger than linux.resources.cpu.quota");
    String value;
    if ((burst != 0 || out.updates()) && CAISSON_TRY(out.allowed(cpu["burst"], "cpu")))
      out.put("cpu.max.burst", value.append_u64(burst));
  }
  if (quota == 0 && period == 0) return ok();
  if (!CAISSON_TRY(out.allowed(cpu[quota != 0 ? "quota" : "period"], "cpu"))) return ok();
  // One file holds both: what is not given stays as it is.
  const i64 kept = quota != 0 ? quota : out.state().cpu_quota;
  String value = limit_text(kept > 0 ? kept : -1);
  value.append(' ').append_u64(period != 0 ? period : out.state().cpu_period);
  out.put("cpu.max", value);
  return ok();
}

Status compile_cpu(LimitWriter& out, const Property& cpu) {
  if (cpu["realtimePeriod"].present() && CAISSON_TRY(cpu["realtimePeriod"].natural(UINT64_MAX)) != 0)
    return cpu["realtimePeriod"].error(ENOTSUP, "cgroup v2 has no realtime bandwidth");
  if (cpu["realtimeRuntime"].present() && CAISSON_TRY(cpu["realtimeRuntime"].integer(INT64_MIN, INT64_MAX)) != 0)
    return cpu["realtimeRuntime"].error(ENOTSUP, "cgroup v2 has no realtime bandwidth");
  // The weight of an idle cgroup is fixed: it is written before the cgroup becomes idle, or after it has been.
  const Property idle = cpu["idle"];
  const i64 on = idle.present() ? CAISSON_TRY(idle.integer(0, 1)) : -1;
  if (on == 0 && CAISSON_TRY(out.allowed(idle, "cpu"))) out.put("cpu.idle", "0");
  const Property shares = cpu["shares"];
  const u64 given = shares.present() ? CAISSON_TRY(shares.natural(UINT64_MAX)) : 0;
  if (given != 0 && CAISSON_TRY(out.allowed(shares, "cpu"))) {
    String value;
    out.put("cpu.weight", value.append_u64(cpu_weight(given)));
  }
  CAISSON_TRY(compile_bandwidth(out, cpu));
  if (on == 1 && CAISSON_TRY(out.allowed(idle, "cpu"))) out.put("cpu.idle", "1");
  for (const string_view key : {"cpus", "mems"}) {
    const Property property = cpu[key];
    const string_view list = CAISSON_TRY(list_text(property));
    if (list.empty() || !CAISSON_TRY(out.allowed(property, "cpuset"))) continue;
    String file("cpuset.");
    out.put(file.append(key), list);
  }
  return ok();
}

Status compile_pids(LimitWriter& out, const Property& pids) {
  const Property limit = pids["limit"];
  if (!limit.present()) return ok();
  const i64 value = CAISSON_TRY(limit.integer(INT64_MIN, INT64_MAX));  // 0 is a limit: no process at all
  if (CAISSON_TRY(out.allowed(limit, "pids"))) out.put("pids.max", limit_text(value));
  return ok();
}

Status compile_hugetlb(LimitWriter& out, const Property& limits) {
  const u32 count = CAISSON_TRY(limits.list(64));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = limits.at(i);
    CAISSON_TRY(entry.object());
    const Property page = entry["pageSize"];
    const string_view size = CAISSON_TRY(page.text(16));
    size_t digits = 0;
    while (digits < size.size() && size[digits] >= '0' && size[digits] <= '9') ++digits;
    const string_view unit = part(size, digits);
    if (digits == 0 || size[0] == '0' || (unit != "KB" && unit != "MB" && unit != "GB"))
      return page.invalid(size, "is not a page size like 64KB, 2MB or 1GB");
    const u64 limit = CAISSON_TRY(entry["limit"].natural(UINT64_MAX));
    if (!CAISSON_TRY(out.allowed(entry, "hugetlb"))) continue;
    String file("hugetlb."), reserved("hugetlb."), value;
    value.append_u64(limit);
    out.put(file.append(size).append(".max"), value);
    // Reservations are limited too where the kernel counts them: a process learns at mmap, not by SIGBUS.
    out.put(reserved.append(size).append(".rsvd.max"), value, kCgroupIgnoreMissing);
  }
  return ok();
}

Status compile_rdma(LimitWriter& out, const Property& rdma) {
  const u32 count = CAISSON_TRY(rdma.map(64));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = rdma.at(i);
    CAISSON_TRY(entry.object());
    const string_view device = entry.name();
    if (device.empty() || device.size() > 64) return entry.error(EINVAL, "is not the name of a device");
    for (const char c : device)
      if (static_cast<u8>(c) < 0x21 || c == 0x7f) return entry.error(EINVAL, "is not the name of a device");
    const Property handles = entry["hcaHandles"];
    const Property objects = entry["hcaObjects"];
    if (!handles.present() && !objects.present()) return entry.error(EINVAL, "names neither hcaHandles nor hcaObjects");
    String value(device);
    if (handles.present()) value.append(" hca_handle=").append_u64(CAISSON_TRY(handles.natural(UINT32_MAX)));
    if (objects.present()) value.append(" hca_object=").append_u64(CAISSON_TRY(objects.natural(UINT32_MAX)));
    if (CAISSON_TRY(out.allowed(entry, "rdma"))) out.put("rdma.max", value);
  }
  return ok();
}

Status compile_network(const Property& network) {
  const Property id = network["classID"];
  if (id.present() && CAISSON_TRY(id.natural(UINT32_MAX)) != 0)
    return id.error(ENOTSUP, "cgroup v2 has no classes of packets");
  if (CAISSON_TRY(network["priorities"].list(kLimitEntriesMax)) != 0)
    return network["priorities"].error(ENOTSUP, "cgroup v2 has no priorities of interfaces");
  return ok();
}

// Files as the caller names them; each line of a value is a write of its own, as the kernel wants it.
Status compile_unified(LimitWriter& out, const Property& unified) {
  const u32 count = CAISSON_TRY(unified.map(kLimitEntriesMax));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = unified.at(i);
    const string_view file = entry.name();
    const size_t dot = file.find('.');
    if (file.size() > kNameMax || dot == 0 || dot == string_view::npos)
      return entry.error(EINVAL, "is not a file of a cgroup, like memory.high");
    for (const char c : file)
      if (static_cast<u8>(c) < 0x21 || c == 0x7f || c == '/')
        return entry.error(EINVAL, "is not a file of a cgroup, like memory.high");
    if (file == "cgroup.procs" || file == "cgroup.threads" || file == "cgroup.kill")
      return entry.error(EINVAL, "moves or ends processes, and is no limit");
    string_view rest = CAISSON_TRY(entry.text(kValueMax));
    for (const char c : rest)
      if ((static_cast<u8>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
        return entry.invalid(rest, "holds a control character");
    const string_view controller = part(file, 0, dot);
    // cgroup.* and irq.pressure are files of every cgroup.
    if (controller != "cgroup" && controller != "irq" && !CAISSON_TRY(out.allowed(entry, controller))) continue;
    do {
      const size_t end = rest.find('\n');
      out.put(file, part(rest, 0, end));
      rest = end == string_view::npos ? string_view() : part(rest, end + 1);
    } while (!rest.empty());
  }
  return ok();
}

}  // namespace

Result<bool> LimitWriter::allowed(const Property& property, string_view controller) {
  for (const string_view each : context_.controllers)
    if (each == controller) return true;
  String reason("controller '");
  append_shown(reason, controller);
  reason.append("' is not available in this cgroup hierarchy");
  if (!context_.warn_missing_controller) return property.error(ENOTSUP, reason);
  context_.warn(property, reason);
  return false;
}

Status compile_limits(LimitWriter& out, const Property& resources) {
  CAISSON_TRY(compile_memory(out, CAISSON_TRY(resources.object("memory"))));
  CAISSON_TRY(compile_cpu(out, CAISSON_TRY(resources.object("cpu"))));
  CAISSON_TRY(compile_pids(out, CAISSON_TRY(resources.object("pids"))));
  CAISSON_TRY(compile_io(out, CAISSON_TRY(resources.object("blockIO"))));
  CAISSON_TRY(compile_hugetlb(out, resources["hugepageLimits"]));
  CAISSON_TRY(compile_rdma(out, resources["rdma"]));
  CAISSON_TRY(compile_network(CAISSON_TRY(resources.object("network"))));
  return compile_unified(out, resources["unified"]);
}

Status compile_resources(Context& context, const Property& resources) {
  LimitWriter out(context, nullptr);
  CAISSON_TRY(compile_limits(out, resources));
  for (const OwnedLimit& limit : out.limits()) {
    CgroupWrite write;
    write.file = context.plan.string(limit.file);
    write.value = context.plan.string(limit.value);
    write.flags = limit.flags;
    context.plan.add(Section::kCgroupWrites, write);
  }
  return compile_device_rules(context, resources);
}

}  // namespace caisson::compile
