// What a cgroup has used, for `events --stats` and `events`. Everything is read from the interface files; a controller
// that is not enabled leaves its part zero. The JSON is that of runc's types.Stats on cgroup v2, which containerd's
// go-runc parses.
#pragma once

#include "core/base.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct PressureLine {  // of *.pressure, in hundredths of a percent and microseconds
  u32 avg10 = 0;
  u32 avg60 = 0;
  u32 avg300 = 0;
  u64 total = 0;
};
struct Pressure {
  bool present = false;
  PressureLine some;
  PressureLine full;
};

struct Counter {
  String name;
  u64 value = 0;
};

struct IoCounter {
  u32 major = 0;
  u32 minor = 0;
  bool write = false;
  u64 value = 0;
};

struct HugetlbStats {
  String page;  // "2MB"
  u64 usage = 0;
  u64 failures = 0;
};

struct RdmaStats {
  String device;
  u32 handles = 0;  // UINT32_MAX: max
  u32 objects = 0;
};

struct CgroupStats {
  // cpu.stat; nanoseconds
  u64 cpu_total = 0;
  u64 cpu_user = 0;
  u64 cpu_kernel = 0;
  bool periods_present = false;  // the cpu controller is enabled
  u64 periods = 0;
  u64 throttled_periods = 0;
  u64 throttled_time = 0;
  u64 burst_periods = 0;
  u64 burst_time = 0;
  Pressure cpu_pressure;
  // memory.*; bytes; UINT64_MAX is "max"
  bool memory_present = false;
  u64 memory_usage = 0;
  u64 memory_limit = 0;
  u64 memory_peak = 0;  // Linux 5.19
  u64 swap_usage = 0;   // swap alone
  u64 swap_limit = 0;
  bool swap_present = false;
  u64 kernel_usage = 0;      // "kernel" of memory.stat, Linux 5.18
  u64 kernel_tcp_usage = 0;  // "sock"
  u64 cache = 0;             // "file"
  u64 limit_hits = 0;        // "max" of memory.events
  u64 oom_kills = 0;
  Vec<Counter> memory_stat;  // memory.stat as it is
  Pressure memory_pressure;
  bool pids_present = false;
  u64 pids = 0;
  u64 pids_limit = 0;  // 0: max, as runc has it
  Vec<IoCounter> io_bytes;
  Vec<IoCounter> io_operations;
  Pressure io_pressure;
  Vec<HugetlbStats> hugetlb;
  Vec<RdmaStats> rdma_current;
  Vec<RdmaStats> rdma_limit;
};

// ENODEV or ENOENT: the cgroup is gone. A file over kCgroupFileMax leaves its part zero.
Result<CgroupStats> cgroup_stats(int cgroup);

// The parsers, pure: lines that are not as the kernel writes them are passed over.
void parse_cpu_stat(CgroupStats& out, string_view text);
void parse_memory_stat(CgroupStats& out, string_view text);
void parse_io_stat(CgroupStats& out, string_view text);
Pressure parse_pressure(string_view text);
Vec<RdmaStats> parse_rdma(string_view text);

// The "data" of runc's event {"type":"stats","id":…,"data":…}. `intel_rdt` is a JSON object, "{}" for none
// (rdt_stats_json).
void write_stats(JsonWriter& out, const CgroupStats& stats, string_view intel_rdt = "{}");

}  // namespace caisson
