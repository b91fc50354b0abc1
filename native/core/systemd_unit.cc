// Names of units and slices, and limits as unit properties: the pure half of systemd.h.
#include "core/systemd.h"
#include "core/words.h"

namespace caisson {
namespace {

constexpr size_t kUnitNameMax = 255;
constexpr u64 kInfinity = ~u64{0};
constexpr u32 kCpusMax = 8192;  // CONFIG_NR_CPUS of the largest kernels
constexpr string_view kSlice = ".slice";
constexpr string_view kScope = ".scope";

bool is_unit_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         string_view(":-_.\\@").find(c) != string_view::npos;
}

Error invalid(string_view what, string_view value) {
  String object("linux.cgroupsPath: ");
  object.append(what).append(" '").append(part(value, 0, 64)).append('\'');
  return Error(EINVAL, "systemd", object);
}

// systemd's own escape for what a unit's name cannot hold ('+' of a container's id): \x2b
void append_escaped(String& out, string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  for (const char c : text) {
    if (is_unit_char(c) && c != '\\' && c != '@')
      out.append(c);
    else
      out.append("\\x").append(kHex[static_cast<u8>(c) >> 4]).append(kHex[static_cast<u8>(c) & 15]);
  }
}

string_view trimmed(string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t' || text.front() == '\n')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

// "max" or a number and nothing else.
bool read_limit(string_view text, u64& number) {
  text = trimmed(text);
  if (text == "max") {
    number = kInfinity;
    return true;
  }
  return is_number(text, number);
}

void put(DbusWriter& out, string_view name, u64 value) {
  out.begin_struct().string(name).signature("t").u64_value(value);
}

// cpu.max, "quota period", as microseconds of CPU time per second. systemd writes whole hundredths to its unit file:
// rounded up, so that a reload does not leave less than was asked for (runc and crun do so too).
void put_bandwidth(DbusWriter& out, string_view value) {
  value = trimmed(value);
  const size_t blank = value.find(' ');
  u64 quota = 0;
  u64 period = 100'000;
  if (!read_limit(part(value, 0, blank), quota)) return;
  if (blank != value.npos && (!read_limit(part(value, blank), period) || period == 0 || period == kInfinity)) return;
  put(out, "CPUQuotaPeriodUSec", period);
  u64 scaled = 0;
  if (quota == kInfinity || __builtin_mul_overflow(quota, u64{1'000'000}, &scaled))
    return put(out, "CPUQuotaPerSecUSec", kInfinity);
  const u64 per_second = scaled / period;
  put(out, "CPUQuotaPerSecUSec", (per_second + 9'999) / 10'000 * 10'000);
}

// "0-3,7" as a mask, the least bit of the first byte first.
void put_set(DbusWriter& out, string_view name, string_view list) {
  u8 mask[kCpusMax / 8] = {};
  size_t used = 0;
  list = trimmed(list);
  while (!list.empty()) {
    u64 first = 0;
    if (!take_number(list, first)) return;
    u64 last = first;
    if (!list.empty() && list.front() == '-') {
      list.remove_prefix(1);
      if (!take_number(list, last)) return;
    }
    if (last >= kCpusMax || first > last) return;
    for (u64 i = first; i <= last; ++i) mask[i / 8] = static_cast<u8>(mask[i / 8] | 1u << i % 8);
    if (last / 8 + 1 > used) used = last / 8 + 1;
    if (list.empty()) break;
    if (list.front() != ',') return;
    list.remove_prefix(1);
  }
  if (used == 0) return;
  out.begin_struct().string(name).signature("ay").bytes({mask, used});
}

}  // namespace

Result<String> systemd_slice_path(string_view slice) {
  if (!slice.ends_with(kSlice) || slice.size() == kSlice.size() || slice.size() > kUnitNameMax)
    return invalid("no slice:", slice);
  const string_view name = part(slice, 0, slice.size() - kSlice.size());
  if (name == "-") return String("/");
  String path;
  for (size_t start = 0; start <= name.size();) {
    size_t end = name.find('-', start);
    if (end == name.npos) end = name.size();
    if (end == start) return invalid("no slice:", slice);
    for (const char c : part(name, start, end - start))
      if (!is_unit_char(c)) return invalid("no slice:", slice);
    path.append('/').append(part(name, 0, end)).append(kSlice);
    start = end + 1;
  }
  return path;
}

Result<SystemdScope> systemd_scope(string_view cgroups_path, string_view id, bool rootless) {
  SystemdScope scope;
  scope.slice = String(rootless ? "user.slice" : "system.slice");
  if (cgroups_path.empty()) {
    scope.unit.append("caisson-");
    append_escaped(scope.unit, id);
    scope.unit.append(kScope);
  } else {
    const size_t first = cgroups_path.find(':');
    const size_t second = first == cgroups_path.npos ? first : cgroups_path.find(':', first + 1);
    if (second == cgroups_path.npos || cgroups_path.find(':', second + 1) != cgroups_path.npos) {
      String object("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"");
      object.append(part(cgroups_path, 0, 128)).append("\" instead");
      return Error(EINVAL, "systemd", object);
    }
    const string_view slice = part(cgroups_path, 0, first);
    const string_view prefix = part(cgroups_path, first + 1, second - first - 1);
    const string_view name = part(cgroups_path, second + 1);
    if (name.empty()) return invalid("no name in", cgroups_path);
    if (name.ends_with(kSlice)) return invalid("a slice holds no process:", name);
    if (!slice.empty()) scope.slice = String(slice);
    scope.unit.append(prefix).append('-').append(name).append(kScope);
  }
  CAISSON_TRY(systemd_slice_path(scope.slice));
  if (scope.unit.size() > kUnitNameMax) return invalid("a unit's name of over 255 bytes:", scope.unit);
  for (const char c : scope.unit.view())
    if (!is_unit_char(c)) return invalid("a unit's name cannot hold all characters of", scope.unit);
  return scope;
}

Status refuse_systemd_properties(const JsonValue& annotations) {
  constexpr string_view kPrefix = "org.systemd.property.";
  for (u32 i = 0; annotations.is_object() && i < annotations.size(); ++i) {
    const string_view key = annotations.key_at(i);
    if (!key.starts_with(kPrefix)) continue;
    String object("annotations.");
    object.append(part(key, 0, 96)).append(": unit properties cannot be set by annotation");
    return Error(ENOTSUP, "compile", object);
  }
  return ok();
}

void append_unit_properties(DbusWriter& out, span<const CgroupLimit> limits) {
  struct Name {
    string_view file;
    string_view property;
  };
  static constexpr Name kNumbers[] = {
      {"memory.max", "MemoryMax"},          {"memory.high", "MemoryHigh"}, {"memory.low", "MemoryLow"},
      {"memory.min", "MemoryMin"},          {"cpu.weight", "CPUWeight"},   {"io.weight", "IOWeight"},
      {"memory.swap.max", "MemorySwapMax"},
  };
  for (const CgroupLimit& limit : limits) {
    const string_view file(limit.file);
    u64 number = 0;
    if (file == "cpu.max") put_bandwidth(out, limit.value);
    if (file == "cpuset.cpus") put_set(out, "AllowedCPUs", limit.value);
    if (file == "cpuset.mems") put_set(out, "AllowedMemoryNodes", limit.value);
    // systemd refuses 0, which the file takes
    if (file == "pids.max" && read_limit(limit.value, number)) put(out, "TasksMax", number == 0 ? 1 : number);
    for (const Name& each : kNumbers) {
      string_view value = trimmed(limit.value);
      if (file == "io.weight" && value.starts_with("default ")) value.remove_prefix(8);
      if (file == each.file && read_limit(value, number)) put(out, each.property, number);
    }
  }
}

}  // namespace caisson
