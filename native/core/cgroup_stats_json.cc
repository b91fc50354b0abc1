// CgroupStats as the "data" of runc's events: types/events.go of runc.
#include "core/cgroup_stats.h"

namespace caisson {
namespace {

// Go's `omitempty`: a number that is 0 is left out.
void some(JsonWriter& out, string_view key, u64 value) {
  if (value != 0) out.member(key, value);
}

void pressure_line(JsonWriter& out, string_view key, const PressureLine& line) {
  auto hundredths = [&](string_view name, u32 value) {
    String number;
    number.append_u64(value / 100).append('.').append_u64(value / 10 % 10).append_u64(value % 10);
    out.key(name).raw(number);
  };
  out.key(key).begin_object();
  hundredths("avg10", line.avg10);
  hundredths("avg60", line.avg60);
  hundredths("avg300", line.avg300);
  out.member("total", line.total).end_object();
}

void pressure(JsonWriter& out, const Pressure& value) {
  if (!value.present) return;
  out.key("psi").begin_object();
  pressure_line(out, "some", value.some);
  pressure_line(out, "full", value.full);
  out.end_object();
}

void memory_entry(JsonWriter& out, string_view key, u64 limit, u64 usage, u64 max, u64 failures) {
  out.key(key).begin_object().member("limit", limit);
  some(out, "usage", usage);
  some(out, "max", max);
  out.member("failcnt", failures).end_object();
}

void io_list(JsonWriter& out, string_view key, const Vec<IoCounter>& list) {
  if (list.empty()) return;
  out.key(key).begin_array();
  for (const IoCounter& each : list) {
    out.begin_object();
    some(out, "major", each.major);
    some(out, "minor", each.minor);
    out.member("op", each.write ? "Write" : "Read");
    some(out, "value", each.value);
    out.end_object();
  }
  out.end_array();
}

void write_cpu(JsonWriter& out, const CgroupStats& stats) {
  out.key("cpu").begin_object().key("usage").begin_object();
  some(out, "total", stats.cpu_total);
  out.member("kernel", stats.cpu_kernel).member("user", stats.cpu_user).end_object();
  out.key("throttling").begin_object();
  some(out, "periods", stats.periods);
  some(out, "throttledPeriods", stats.throttled_periods);
  some(out, "throttledTime", stats.throttled_time);
  out.end_object();
  if (stats.burst_periods != 0 || stats.burst_time != 0) {
    out.key("burst").begin_object();
    some(out, "burstsPeriods", stats.burst_periods);
    some(out, "burstTime", stats.burst_time);
    out.end_object();
  }
  pressure(out, stats.cpu_pressure);
  out.end_object();
}

void write_memory(JsonWriter& out, const CgroupStats& stats) {
  constexpr u64 kMax = ~u64{0};
  out.key("memory").begin_object();
  some(out, "cache", stats.cache);
  memory_entry(out, "usage", stats.memory_limit, stats.memory_usage, stats.memory_peak, stats.limit_hits);
  // As v1 counts: memory and swap together.
  u64 limit = stats.swap_limit;
  u64 usage = 0;
  if (stats.swap_present) {
    usage = stats.swap_usage + stats.memory_usage;
    if (limit != kMax && (stats.memory_limit == kMax || __builtin_add_overflow(limit, stats.memory_limit, &limit)))
      limit = kMax;
  }
  memory_entry(out, "swap", limit, usage, 0, 0);
  memory_entry(out, "kernel", 0, stats.kernel_usage, 0, 0);
  memory_entry(out, "kernelTCP", 0, stats.kernel_tcp_usage, 0, 0);
  if (!stats.memory_stat.empty()) {
    out.key("raw").begin_object();
    for (const Counter& each : stats.memory_stat) out.member(each.name, each.value);
    out.end_object();
  }
  pressure(out, stats.memory_pressure);
  out.end_object();
}

// runc's types.CPUSet: all of it is of cgroup v1, and its members are not left out.
void write_cpuset(JsonWriter& out) {
  out.key("cpuset").begin_object();
  for (const string_view key :
       {"cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
        "memory_pressure", "sched_load_balance", "sched_relax_domain_level"})
    out.member(key, u64{0});
  out.end_object();
}

}  // namespace

void write_stats(JsonWriter& out, const CgroupStats& stats, string_view intel_rdt) {
  out.begin_object();
  write_cpu(out, stats);
  write_cpuset(out);
  write_memory(out, stats);
  out.key("pids").begin_object();
  some(out, "current", stats.pids);
  some(out, "limit", stats.pids_limit);
  out.end_object();
  out.key("blkio").begin_object();
  io_list(out, "ioServiceBytesRecursive", stats.io_bytes);
  io_list(out, "ioServicedRecursive", stats.io_operations);
  pressure(out, stats.io_pressure);
  out.end_object();
  out.key("hugetlb").begin_object();
  for (const HugetlbStats& page : stats.hugetlb) {
    out.key(page.page).begin_object();
    some(out, "usage", page.usage);
    out.member("failcnt", page.failures).end_object();
  }
  out.end_object();
  out.key("intel_rdt").raw(intel_rdt);
  out.key("network_interfaces").null();
  out.end_object();
}

}  // namespace caisson
