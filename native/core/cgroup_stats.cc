#include "core/cgroup_stats.h"

#include <dirent.h>
#include <fcntl.h>

#include "core/cgroup.h"
#include "core/directory.h"
#include "core/words.h"

namespace caisson {
namespace {

constexpr u64 kMax = ~u64{0};
constexpr size_t kDevicesMax = 4096;  // lines of io.stat that are kept

// "max" or a number and nothing else.
bool read_number(string_view text, u64& number) {
  number = kMax;
  return text == "max" || is_number(text, number);
}

// "12.34" as 1234
bool read_hundredths(string_view text, u32& out) {
  const string_view whole = take_until(text, '.');
  u64 units = 0;
  u64 rest = 0;
  if (!read_number(whole, units) || !read_number(text, rest) || units > 100 || text.size() != 2) return false;
  out = static_cast<u32>(units * 100 + rest);
  return true;
}

class Files {
 public:
  explicit Files(int cgroup) : cgroup_(cgroup) { text_.reserve(kCgroupFileMax); }

  // The text of a file; "" where the controller is not enabled or the kernel has none such.
  Result<string_view> read(const char* file) {
    auto text = cgroup_read(cgroup_, file, {text_.data(), kCgroupFileMax});
    if (text) return text;
    const int err = text.error().err;
    // EOPNOTSUPP: pressure is compiled in and turned off. EFBIG: thousands of devices in io.stat, say; the rest is told
    if (err == ENOENT || err == EOPNOTSUPP || err == EFBIG) return string_view();
    return text;
  }
  // The number in a file, or `fallback`.
  Result<u64> number(const char* file, u64 fallback, bool* present = nullptr) {
    const string_view text = CAISSON_TRY(read(file));
    u64 value = 0;
    if (!read_number(text, value)) return fallback;
    if (present != nullptr) *present = true;
    return value;
  }

 private:
  int cgroup_;
  Vec<char> text_;
};

Status read_memory(Files& files, CgroupStats& out) {
  out.memory_usage = CAISSON_TRY(files.number("memory.current", 0, &out.memory_present));
  if (!out.memory_present) return ok();
  out.memory_limit = CAISSON_TRY(files.number("memory.max", 0));
  out.memory_peak = CAISSON_TRY(files.number("memory.peak", 0));
  out.swap_usage = CAISSON_TRY(files.number("memory.swap.current", 0, &out.swap_present));
  out.swap_limit = CAISSON_TRY(files.number("memory.swap.max", 0));
  parse_memory_stat(out, CAISSON_TRY(files.read("memory.stat")));
  const MemoryEvents events = parse_memory_events(CAISSON_TRY(files.read("memory.events")));
  out.limit_hits = events.max;
  out.oom_kills = events.oom_kill;
  return ok();
}

// hugetlb.<page>.current, for the pages that the kernel has.
Status read_hugetlb(int cgroup, Files& files, CgroupStats& out) {
  Fd list(openat(cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!list) return Error::last("openat", ".");
  DirectoryReader reader(list.get());
  for (;;) {
    const DirectoryReader::Entry entry = CAISSON_TRY(reader.next());
    if (entry.name == nullptr) return ok();
    constexpr string_view kPrefix = "hugetlb.";
    constexpr string_view kSuffix = ".current";
    string_view name(entry.name);
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) || name.size() <= kPrefix.size() + kSuffix.size())
      continue;
    name = part(name, kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    if (name.find('.') != name.npos) continue;  // of reservations: hugetlb.2MB.rsvd.current
    HugetlbStats page;
    page.page = String(name);
    page.usage = CAISSON_TRY(files.number(entry.name, 0));
    String events(kPrefix);
    events.append(name).append(".events");
    each_count(CAISSON_TRY(files.read(events.c_str())), [&](string_view key, u64 number) {
      if (key == "max") page.failures = number;
    });
    out.hugetlb.push(static_cast<HugetlbStats&&>(page));
  }
}

}  // namespace

void parse_cpu_stat(CgroupStats& out, string_view text) {
  each_count(text, [&](string_view key, u64 number) {
    if (key == "usage_usec") out.cpu_total = number * 1000;
    if (key == "user_usec") out.cpu_user = number * 1000;
    if (key == "system_usec") out.cpu_kernel = number * 1000;
    if (key == "nr_periods") {
      out.periods_present = true;
      out.periods = number;
    }
    if (key == "nr_throttled") out.throttled_periods = number;
    if (key == "throttled_usec") out.throttled_time = number * 1000;
    if (key == "nr_bursts") out.burst_periods = number;
    if (key == "burst_usec") out.burst_time = number * 1000;
  });
}

void parse_memory_stat(CgroupStats& out, string_view text) {
  each_count(text, [&](string_view key, u64 number) {
    if (key == "file") out.cache = number;
    if (key == "kernel") out.kernel_usage = number;
    if (key == "sock") out.kernel_tcp_usage = number;
    out.memory_stat.push({String(key), number});
  });
}

void parse_io_stat(CgroupStats& out, string_view text) {
  while (!text.empty() && out.io_bytes.size() < kDevicesMax) {
    string_view line = take_until(text, '\n');
    string_view device = take_until(line, ' ');
    u64 major = 0;
    u64 minor = 0;
    if (!read_number(take_until(device, ':'), major) || !read_number(device, minor) || major > UINT32_MAX ||
        minor > UINT32_MAX)
      continue;
    while (!line.empty()) {
      string_view pair = take_until(line, ' ');
      const string_view key = take_until(pair, '=');
      IoCounter counter;
      counter.major = static_cast<u32>(major);
      counter.minor = static_cast<u32>(minor);
      counter.write = key == "wbytes" || key == "wios";
      if (!read_number(pair, counter.value)) continue;
      if (key == "rbytes" || key == "wbytes") out.io_bytes.push(counter);
      if (key == "rios" || key == "wios") out.io_operations.push(counter);
    }
  }
}

Pressure parse_pressure(string_view text) {
  Pressure pressure;
  while (!text.empty()) {
    string_view line = take_until(text, '\n');
    const string_view kind = take_until(line, ' ');
    PressureLine* into = kind == "some" ? &pressure.some : kind == "full" ? &pressure.full : nullptr;
    if (into == nullptr) continue;
    pressure.present = true;
    while (!line.empty()) {
      string_view pair = take_until(line, ' ');
      const string_view key = take_until(pair, '=');
      if (key == "avg10") read_hundredths(pair, into->avg10);
      if (key == "avg60") read_hundredths(pair, into->avg60);
      if (key == "avg300") read_hundredths(pair, into->avg300);
      if (key == "total" && !read_number(pair, into->total)) into->total = 0;
    }
  }
  return pressure;
}

Vec<RdmaStats> parse_rdma(string_view text) {
  Vec<RdmaStats> devices;
  while (!text.empty() && devices.size() < kDevicesMax) {
    string_view line = take_until(text, '\n');
    RdmaStats device;
    device.device = String(take_until(line, ' '));
    if (device.device.empty()) continue;
    while (!line.empty()) {
      string_view pair = take_until(line, ' ');
      const string_view key = take_until(pair, '=');
      u64 number = 0;
      if (!read_number(pair, number)) continue;
      const u32 bounded = number > UINT32_MAX ? UINT32_MAX : static_cast<u32>(number);
      if (key == "hca_handle") device.handles = bounded;
      if (key == "hca_object") device.objects = bounded;
    }
    devices.push(static_cast<RdmaStats&&>(device));
  }
  return devices;
}

Result<CgroupStats> cgroup_stats(int cgroup) {
  // Files that are not there are read as empty: that the cgroup itself is must be asked of one that always is.
  CAISSON_TRY(cgroup_events(cgroup));
  Files files(cgroup);
  CgroupStats out;
  parse_cpu_stat(out, CAISSON_TRY(files.read("cpu.stat")));
  out.cpu_pressure = parse_pressure(CAISSON_TRY(files.read("cpu.pressure")));
  CAISSON_TRY(read_memory(files, out));
  out.memory_pressure = parse_pressure(CAISSON_TRY(files.read("memory.pressure")));
  out.pids = CAISSON_TRY(files.number("pids.current", 0, &out.pids_present));
  out.pids_limit = CAISSON_TRY(files.number("pids.max", 0));
  if (out.pids_limit == kMax) out.pids_limit = 0;
  parse_io_stat(out, CAISSON_TRY(files.read("io.stat")));
  out.io_pressure = parse_pressure(CAISSON_TRY(files.read("io.pressure")));
  CAISSON_TRY(read_hugetlb(cgroup, files, out));
  out.rdma_current = parse_rdma(CAISSON_TRY(files.read("rdma.current")));
  out.rdma_limit = parse_rdma(CAISSON_TRY(files.read("rdma.max")));
  return out;
}

}  // namespace caisson
