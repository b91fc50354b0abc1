// linux.resources as writes to the files of a cgroup v2 directory that has just been made: runtime-spec config-linux.md
// "Control groups", kernel Documentation/admin-guide/cgroup-v2.rst. What v2 cannot express is an error.
#include "core/compile/cgroup_values.h"
#include "core/compile/context.h"

namespace caisson::compile {

namespace {

constexpr u32 kEntriesMax = 512;
constexpr u32 kValueMax = 4000;
constexpr u64 kMajorMax = 0xfff;
constexpr u64 kMinorMax = 0xfffff;

class Writer {
 public:
  explicit Writer(Context& context) : context_(context) {}

  // May what `property` asks for be written? An error names a missing controller, or a warning where the operator wants
  // the container to run without the limit.
  Result<bool> allowed(const Property& property, string_view controller) {
    for (const string_view each : context_.controllers)
      if (each == controller) return true;
    String reason("controller '");
    append_shown(reason, controller);
    reason.append("' is not available in this cgroup hierarchy");
    if (!context_.warn_missing_controller) return property.error(ENOTSUP, reason);
    context_.warn(property, reason);
    return false;
  }

  void put(string_view file, string_view value, u32 flags = 0) {
    CgroupWrite write;
    write.file = context_.plan.string(file);
    write.value = context_.plan.string(value);
    write.flags = flags;
    context_.plan.add(Section::kCgroupWrites, write);
  }

  Context& context() { return context_; }

 private:
  Context& context_;
};

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
  CAISSON_TRY(memory["checkBeforeUpdate"].flag_or(false));  // about updates only: a new cgroup uses no memory
  return ok();
}

Status compile_memory(Writer& out, const Property& memory) {
  CAISSON_TRY(memory_unsupported(memory));
  const i64 limit = CAISSON_TRY(limit_or_zero(memory["limit"]));
  const i64 swap = CAISSON_TRY(limit_or_zero(memory["swap"]));
  const i64 reservation = CAISSON_TRY(limit_or_zero(memory["reservation"]));
  if (swap > 0) {
    if (limit == 0) return memory["swap"].error(EINVAL, "is memory plus swap, and needs linux.resources.memory.limit");
    if (swap < limit)
      return memory["swap"].error(EINVAL, "is memory plus swap, and less than linux.resources.memory.limit");
  }
  // v1 counts memory and swap together, v2 swap alone. A host without swap accounting has no file, and needs none to
  // grant no swap or any amount of it.
  if ((swap != 0 || limit == -1) && CAISSON_TRY(out.allowed(memory[swap != 0 ? "swap" : "limit"], "memory"))) {
    const i64 alone = swap <= 0 ? -1 : limit == -1 ? swap : swap - limit;
    out.put("memory.swap.max", limit_text(alone), alone <= 0 ? kCgroupIgnoreMissing : 0u);
  }
  if (limit != 0 && CAISSON_TRY(out.allowed(memory["limit"], "memory"))) out.put("memory.max", limit_text(limit));
  if (reservation != 0 && CAISSON_TRY(out.allowed(memory["reservation"], "memory")))
    out.put("memory.low", limit_text(reservation));
  return ok();
}

Status compile_bandwidth(Writer& out, const Property& cpu) {
  const i64 quota = cpu["quota"].present() ? CAISSON_TRY(cpu["quota"].integer(INT64_MIN, INT64_MAX)) : 0;
  const u64 period = cpu["period"].present() ? CAISSON_TRY(cpu["period"].natural(UINT64_MAX)) : 0;
  const u64 burst = cpu["burst"].present() ? CAISSON_TRY(cpu["burst"].natural(UINT64_MAX)) : 0;
  if (quota != 0 || period != 0) {
    if (!CAISSON_TRY(out.allowed(cpu[quota != 0 ? "quota" : "period"], "cpu"))) return ok();
    String value = limit_text(quota > 0 ? quota : -1);
    value.append(' ').append_u64(period != 0 ? period : 100000);
    out.put("cpu.max", value);
  }
  if (burst == 0) return ok();
  if (quota > 0 && burst > static_cast<u64>(quota))
    return cpu["burst"].error(EINVAL, "is larger than linux.resources.cpu.quota");
  if (!CAISSON_TRY(out.allowed(cpu["burst"], "cpu"))) return ok();
  String value;
  out.put("cpu.max.burst", value.append_u64(burst));  // after cpu.max, whose quota is its ceiling
  return ok();
}

Status compile_cpu(Writer& out, const Property& cpu) {
  if (cpu["realtimePeriod"].present() && CAISSON_TRY(cpu["realtimePeriod"].natural(UINT64_MAX)) != 0)
    return cpu["realtimePeriod"].error(ENOTSUP, "cgroup v2 has no realtime bandwidth");
  if (cpu["realtimeRuntime"].present() && CAISSON_TRY(cpu["realtimeRuntime"].integer(INT64_MIN, INT64_MAX)) != 0)
    return cpu["realtimeRuntime"].error(ENOTSUP, "cgroup v2 has no realtime bandwidth");
  const Property shares = cpu["shares"];
  const u64 given = shares.present() ? CAISSON_TRY(shares.natural(UINT64_MAX)) : 0;
  if (given != 0 && CAISSON_TRY(out.allowed(shares, "cpu"))) {
    String value;
    out.put("cpu.weight", value.append_u64(cpu_weight(given)));
  }
  CAISSON_TRY(compile_bandwidth(out, cpu));
  if (const Property idle = cpu["idle"]; idle.present()) {
    const i64 on = CAISSON_TRY(idle.integer(0, 1));
    if (CAISSON_TRY(out.allowed(idle, "cpu"))) out.put("cpu.idle", on != 0 ? "1" : "0");
  }
  for (const string_view key : {"cpus", "mems"}) {
    const Property property = cpu[key];
    const string_view list = CAISSON_TRY(list_text(property));
    if (list.empty() || !CAISSON_TRY(out.allowed(property, "cpuset"))) continue;
    String file("cpuset.");
    out.put(file.append(key), list);
  }
  return ok();
}

Status compile_pids(Writer& out, const Property& pids) {
  const Property limit = pids["limit"];
  if (!limit.present()) return ok();
  const i64 value = CAISSON_TRY(limit.integer(INT64_MIN, INT64_MAX));  // 0 is a limit: no process at all
  if (CAISSON_TRY(out.allowed(limit, "pids"))) out.put("pids.max", limit_text(value));
  return ok();
}

// "8:0", from an entry with major and minor
Result<String> device_of(const Property& entry) {
  CAISSON_TRY(entry.object());
  String device;
  device.append_u64(CAISSON_TRY(entry["major"].natural(kMajorMax))).append(':');
  device.append_u64(CAISSON_TRY(entry["minor"].natural(kMinorMax)));
  return device;
}

// The BFQ scheduler takes the weights of v1 as they are; io.weight belongs to the iocost controller. The second write
// is for hosts whose kernel lacks the file of the first.
Status put_weight(Writer& out, string_view device, u64 weight) {
  String bfq, io;
  for (String* value : {&bfq, &io})
    if (!device.empty()) value->append(device).append(' ');
  out.put("io.bfq.weight", bfq.append_u64(weight), kCgroupIgnoreMissing);
  out.put("io.weight", io.append_u64(io_weight(weight)), kCgroupIfPreviousMissing);
  return ok();
}

Status compile_weights(Writer& out, const Property& io) {
  auto weight_of = [](const Property& weight) -> Result<u64> {
    if (!weight.present()) return u64{0};
    const u64 value = CAISSON_TRY(weight.natural(1000));
    if (value != 0 && value < 10) return weight.invalid(weight.value().number_text(), "is not from 10 to 1000");
    return value;
  };
  if (const u64 weight = CAISSON_TRY(weight_of(io["weight"]));
      weight != 0 && CAISSON_TRY(out.allowed(io["weight"], "io")))
    CAISSON_TRY(put_weight(out, {}, weight));
  if (CAISSON_TRY(weight_of(io["leafWeight"])) != 0)
    return io["leafWeight"].error(ENOTSUP, "cgroup v2 has no leaf weight");
  const Property devices = io["weightDevice"];
  const u32 count = CAISSON_TRY(devices.list(kEntriesMax));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = devices.at(i);
    const String device = CAISSON_TRY(device_of(entry));
    if (CAISSON_TRY(weight_of(entry["leafWeight"])) != 0)
      return entry["leafWeight"].error(ENOTSUP, "cgroup v2 has no leaf weight");
    const u64 weight = CAISSON_TRY(weight_of(entry["weight"]));
    if (weight != 0 && CAISSON_TRY(out.allowed(entry["weight"], "io"))) CAISSON_TRY(put_weight(out, device, weight));
  }
  return ok();
}

Status compile_io(Writer& out, const Property& io) {
  struct Throttle {
    string_view key;
    string_view word;
  };
  static constexpr Throttle kThrottles[] = {
      {"throttleReadBpsDevice", "rbps"},
      {"throttleWriteBpsDevice", "wbps"},
      {"throttleReadIOPSDevice", "riops"},
      {"throttleWriteIOPSDevice", "wiops"},
  };
  CAISSON_TRY(compile_weights(out, io));
  for (const Throttle& throttle : kThrottles) {
    const Property list = io[throttle.key];
    const u32 count = CAISSON_TRY(list.list(kEntriesMax));
    for (u32 i = 0; i < count; ++i) {
      const Property entry = list.at(i);
      String value = CAISSON_TRY(device_of(entry));
      const u64 rate = CAISSON_TRY(entry["rate"].natural(UINT64_MAX));
      value.append(' ').append(throttle.word).append('=');
      if (rate == 0)
        value.append("max");  // v1's way to lift the limit; v2 refuses 0
      else
        value.append_u64(rate);
      if (CAISSON_TRY(out.allowed(entry, "io"))) out.put("io.max", value);
    }
  }
  return ok();
}

Status compile_hugetlb(Writer& out, const Property& limits) {
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

Status compile_rdma(Writer& out, const Property& rdma) {
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
  if (CAISSON_TRY(network["priorities"].list(kEntriesMax)) != 0)
    return network["priorities"].error(ENOTSUP, "cgroup v2 has no priorities of interfaces");
  return ok();
}

// Files as the caller names them; each line of a value is a write of its own, as the kernel wants it.
Status compile_unified(Writer& out, const Property& unified) {
  const u32 count = CAISSON_TRY(unified.map(kEntriesMax));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = unified.at(i);
    const string_view file = entry.name();
    const size_t dot = file.find('.');
    if (file.size() > kNameMax || dot == 0 || dot == string_view::npos)
      return entry.error(EINVAL, "is not a file of a cgroup, like memory.high");
    for (const char c : file)
      if (static_cast<u8>(c) < 0x21 || c == 0x7f || c == '/')
        return entry.error(EINVAL, "is not a file of a cgroup, like memory.high");
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

Status compile_resources(Context& context, const Property& resources) {
  Writer out(context);
  CAISSON_TRY(compile_memory(out, CAISSON_TRY(resources.object("memory"))));
  CAISSON_TRY(compile_cpu(out, CAISSON_TRY(resources.object("cpu"))));
  CAISSON_TRY(compile_pids(out, CAISSON_TRY(resources.object("pids"))));
  CAISSON_TRY(compile_io(out, CAISSON_TRY(resources.object("blockIO"))));
  CAISSON_TRY(compile_hugetlb(out, resources["hugepageLimits"]));
  CAISSON_TRY(compile_rdma(out, resources["rdma"]));
  CAISSON_TRY(compile_network(CAISSON_TRY(resources.object("network"))));
  CAISSON_TRY(compile_unified(out, resources["unified"]));
  return compile_device_rules(context, resources);
}

}  // namespace caisson::compile
