// cgroupUsage(): what many cgroups have used, by one trip to the pool.
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>

#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "core/cgroup.h"
#include "core/cgroup_stats.h"
#include "core/path.h"
#include "core/process_usage.h"

namespace caisson {
namespace {

constexpr size_t kCgroupsMax = 65'536;
constexpr i64 kPidMax = 4'194'304;  // PID_MAX_LIMIT
constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();
constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// What is read of one cgroup.
struct Reading {
  u64 time = 0;  // microseconds since the epoch; 0: it is gone
  CgroupStats stats;
  double processes = kAbsent;
  bool detailed = false;
  ProcessUsage open;
  double open_files = kAbsent;  // RLIMIT_NOFILE of the first process
};

double amount(u64 value) { return value == ~u64{0} ? kUnlimited : static_cast<double>(value); }
double if_there(bool there, u64 value) { return there ? amount(value) : kAbsent; }

double memory_counter(const CgroupStats& stats, string_view name) {
  for (const Counter& counter : stats.memory_stat)
    if (counter.name.view() == name) return amount(counter.value);
  return kAbsent;
}

struct Field {
  const char* name;
  double (*of)(const Reading&);
};

// Their order is that of the numbers of each cgroup; JavaScript reads them by these names (src/pod/stats/usage.ts).
constexpr Field kFields[] = {
    {"time", [](const Reading& r) { return amount(r.time); }},
    // cpu.stat has these three on every kernel, controller or not
    {"cpu", [](const Reading& r) { return amount(r.stats.cpu_total / 1000); }},
    {"cpuUser", [](const Reading& r) { return amount(r.stats.cpu_user / 1000); }},
    {"cpuSystem", [](const Reading& r) { return amount(r.stats.cpu_kernel / 1000); }},
    {"cpuPeriods", [](const Reading& r) { return if_there(r.stats.periods_present, r.stats.periods); }},
    {"cpuThrottledPeriods",
     [](const Reading& r) { return if_there(r.stats.periods_present, r.stats.throttled_periods); }},
    {"cpuThrottled", [](const Reading& r) { return if_there(r.stats.periods_present, r.stats.throttled_time / 1000); }},
    {"memory", [](const Reading& r) { return if_there(r.stats.memory_present, r.stats.memory_usage); }},
    {"memoryLimit", [](const Reading& r) { return if_there(r.stats.memory_present, r.stats.memory_limit); }},
    {"memoryPeak",
     [](const Reading& r) {
       return if_there(r.stats.memory_present && r.stats.memory_peak != 0, r.stats.memory_peak);
     }},
    {"memoryLimitHits", [](const Reading& r) { return if_there(r.stats.memory_present, r.stats.limit_hits); }},
    {"oomKills", [](const Reading& r) { return if_there(r.stats.memory_present, r.stats.oom_kills); }},
    {"anonymous", [](const Reading& r) { return memory_counter(r.stats, "anon"); }},
    {"inactiveFile", [](const Reading& r) { return memory_counter(r.stats, "inactive_file"); }},
    {"file", [](const Reading& r) { return memory_counter(r.stats, "file"); }},
    {"fileMapped", [](const Reading& r) { return memory_counter(r.stats, "file_mapped"); }},
    {"kernel", [](const Reading& r) { return memory_counter(r.stats, "kernel"); }},
    {"pageFaults", [](const Reading& r) { return memory_counter(r.stats, "pgfault"); }},
    {"majorPageFaults", [](const Reading& r) { return memory_counter(r.stats, "pgmajfault"); }},
    {"swap", [](const Reading& r) { return if_there(r.stats.swap_present, r.stats.swap_usage); }},
    {"swapLimit", [](const Reading& r) { return if_there(r.stats.swap_present, r.stats.swap_limit); }},
    {"tasks", [](const Reading& r) { return if_there(r.stats.pids_present, r.stats.pids); }},
    {"tasksLimit",
     [](const Reading& r) {
       return r.stats.pids_present && r.stats.pids_limit == 0 ? kUnlimited
                                                              : if_there(r.stats.pids_present, r.stats.pids_limit);
     }},
    {"processes", [](const Reading& r) { return r.processes; }},
    {"threads", [](const Reading& r) { return if_there(r.detailed, r.open.threads); }},
    {"descriptors", [](const Reading& r) { return if_there(r.detailed, r.open.descriptors); }},
    {"sockets", [](const Reading& r) { return if_there(r.detailed, r.open.sockets); }},
    {"openFilesLimit", [](const Reading& r) { return r.open_files; }},
};

// Behind them, for each of these: cpuSomeAvg10, cpuSomeAvg60, cpuSomeAvg300, cpuSomeTotal, cpuFullAvg10…
struct PressureField {
  const char* name;
  Pressure CgroupStats::*of;
};
constexpr PressureField kPressures[] = {
    {"cpu", &CgroupStats::cpu_pressure},
    {"memory", &CgroupStats::memory_pressure},
    {"io", &CgroupStats::io_pressure},
};
constexpr size_t kPressureNumbers = 8;
constexpr size_t kNumbers =
    sizeof kFields / sizeof kFields[0] + kPressureNumbers * (sizeof kPressures / sizeof kPressures[0]);

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const Field& field : kFields) all.emplace_back(field.name);
  for (const PressureField& pressure : kPressures)
    for (const char* kind : {"Some", "Full"})
      for (const char* what : {"Avg10", "Avg60", "Avg300", "Total"})
        all.push_back(std::string(pressure.name) + kind + what);
  return all;
}

void append_numbers(std::vector<double>& numbers, const Reading& reading) {
  for (const Field& field : kFields) numbers.push_back(field.of(reading));
  for (const PressureField& field : kPressures) {
    const Pressure& pressure = reading.stats.*field.of;
    for (const PressureLine& line : {pressure.some, pressure.full}) {
      for (const u32 hundredths : {line.avg10, line.avg60, line.avg300})
        numbers.push_back(pressure.present ? hundredths / 100.0 : kAbsent);
      numbers.push_back(if_there(pressure.present, line.total));
    }
  }
}

struct Answer {
  std::vector<double> numbers;       // kNumbers of each cgroup
  std::vector<std::string> devices;  // JSON of each, with details
  std::optional<Error> failure;      // the first that is no cgroup's end
};

u64 now_microseconds() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000 + static_cast<u64>(now.tv_nsec) / 1000;
}

bool gone(const Error& error) { return error.err == ENOENT || error.err == ENODEV; }

Result<Reading> read_one(int root, const std::string& path, const int* pid) {
  Fd cgroup = CAISSON_TRY(cgroup_open(root, path.c_str()));
  Reading reading;
  reading.stats = CAISSON_TRY(cgroup_stats(cgroup.get()));
  reading.time = now_microseconds();
  // a container that may make cgroups can make too many of them: it hides its processes then, and nothing else
  const auto processes = cgroup_processes(cgroup.get());
  if (processes) reading.processes = amount((*processes).size());
  if (pid == nullptr || !processes) return reading;
  reading.detailed = true;
  reading.open = CAISSON_TRY(process_usage(*processes));
  rlimit limit = {};
  if (*pid > 0 && prlimit(*pid, RLIMIT_NOFILE, nullptr, &limit) == 0) reading.open_files = amount(limit.rlim_cur);
  return reading;
}

// {"io": [{"major", "minor", "write", "bytes" or "operations"}…], "hugetlb": [{"page", "usage"}…]}
std::string devices_of(const CgroupStats& stats) {
  String text;
  JsonWriter json(text);
  json.begin_object().key("io").begin_array();
  auto counters = [&](const Vec<IoCounter>& list, const char* what) {
    for (const IoCounter& counter : list) {
      json.begin_object().member("major", counter.major).member("minor", counter.minor);
      json.member("write", counter.write).member(what, counter.value).end_object();
    }
  };
  counters(stats.io_bytes, "bytes");
  counters(stats.io_operations, "operations");
  json.end_array().key("hugetlb").begin_array();
  for (const HugetlbStats& page : stats.hugetlb)
    json.begin_object().member("page", page.page.view()).member("usage", page.usage).end_object();
  json.end_array().end_object();
  return {text.c_str(), text.size()};
}

Result<Answer> read_all(const std::string& root, const std::vector<std::string>& paths, const std::vector<int>& pids) {
  Fd dir = CAISSON_TRY(open_at2(AT_FDCWD, root.c_str(), O_RDONLY | O_DIRECTORY, 0, 0));
  const bool detailed = !pids.empty();
  Answer answer;
  answer.numbers.reserve(paths.size() * kNumbers);
  for (size_t i = 0; i < paths.size(); ++i) {
    Result<Reading> reading = read_one(dir.get(), paths[i], detailed ? &pids[i] : nullptr);
    if (!reading) {
      answer.numbers.insert(answer.numbers.end(), kNumbers, kAbsent);
      if (detailed) answer.devices.emplace_back();
      if (!gone(reading.error()) && !answer.failure) answer.failure = reading.error();
      continue;
    }
    append_numbers(answer.numbers, *reading);
    if (detailed) answer.devices.push_back(devices_of(reading->stats));
  }
  return answer;
}

// cgroupUsage(root, paths, pids): { numbers, devices, failure }
Napi::Value usage(const Napi::CallbackInfo& info) {
  std::vector<std::string> paths = strings_argument(info[1], "paths", kCgroupsMax);
  std::vector<int> pids;
  if (info[2].IsArray()) {
    const Napi::Array list = info[2].As<Napi::Array>();
    if (list.Length() != paths.size())
      throw Napi::RangeError::New(info.Env(), "argument 'pids' must have a number for every path");
    for (u32 i = 0; i < list.Length(); ++i)
      pids.push_back(static_cast<int>(integer_argument(list.Get(i), "pids", 0, kPidMax)));
  }
  return run_job(
      info.Env(),
      [root = string_argument(info[0], "root"), paths = std::move(paths), pids = std::move(pids)] {
        return read_all(root, paths, pids);
      },
      [](Napi::Env env, Answer answer) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        Napi::Float64Array numbers = Napi::Float64Array::New(env, answer.numbers.size());
        memcpy(numbers.Data(), answer.numbers.data(), answer.numbers.size() * sizeof(double));
        Napi::Array devices = Napi::Array::New(env, answer.devices.size());
        for (u32 i = 0; i < answer.devices.size(); ++i) devices.Set(i, Napi::String::New(env, answer.devices[i]));
        result.Set("numbers", numbers);
        result.Set("devices", devices);
        result.Set("failure", answer.failure ? make_error(env, *answer.failure).Value() : env.Null());
        return result;
      });
}

}  // namespace

void init_cgroup_usage(Napi::Env env, Napi::Object exports) {
  Napi::Array fields = Napi::Array::New(env, kNumbers);
  u32 at = 0;
  for (const std::string& name : names()) fields.Set(at++, Napi::String::New(env, name));
  exports.Set("cgroupUsageFields", fields);
  exports.Set("cgroupUsage", Napi::Function::New(env, usage, "cgroupUsage"));
}

}  // namespace caisson
