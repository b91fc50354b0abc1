// What a cgroup has used: the parsers, the JSON that go-runc reads, and the kernel's own files.
#include "core/cgroup_stats.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "core/cgroup.h"
#include "test/check.h"

using namespace caisson;

namespace {

void parsers() {
  CgroupStats stats;
  parse_cpu_stat(stats,
                 "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 9\n"
                 "nr_bursts 2\nburst_usec 4\nodd\n");
  CHECK(stats.cpu_total == 5000 && stats.cpu_user == 3000 && stats.cpu_kernel == 2000 && stats.periods == 7);
  CHECK(stats.throttled_periods == 1 && stats.throttled_time == 9000 && stats.burst_periods == 2 &&
        stats.burst_time == 4000);
  parse_memory_stat(stats, "anon 1\nfile 2\nkernel 3\nsock 4\nbad x\nbig 99999999999999999999999\n");
  CHECK(stats.cache == 2 && stats.kernel_usage == 3 && stats.kernel_tcp_usage == 4 && stats.memory_stat.size() == 4);
  parse_io_stat(
      stats, "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\nx:y rbytes=1\n253:1 \n8:16 rbytes=9 odd wios=x\n");
  CHECK(stats.io_bytes.size() == 3 && stats.io_operations.size() == 2);
  CHECK(stats.io_bytes[1].write && stats.io_bytes[1].value == 2 && stats.io_bytes[2].minor == 16);
  const Pressure pressure = parse_pressure("some avg10=1.50 avg60=0.05 avg300=100.00 total=123\nfull avg10=0.00 x=1\n");
  CHECK(pressure.present && pressure.some.avg10 == 150 && pressure.some.avg60 == 5 && pressure.some.avg300 == 10000);
  CHECK(pressure.some.total == 123 && pressure.full.total == 0);
  CHECK(!parse_pressure("").present);
  const Vec<RdmaStats> rdma = parse_rdma("mlx4_0 hca_handle=2 hca_object=max\n\nocrdma1 hca_handle=3\n");
  CHECK(rdma.size() == 2 && rdma[0].handles == 2 && rdma[0].objects == UINT32_MAX &&
        rdma[1].device.view() == "ocrdma1");
}

void json() {
  CgroupStats stats;
  parse_cpu_stat(stats, "usage_usec 5\nuser_usec 3\nsystem_usec 2\n");
  stats.cpu_pressure = parse_pressure("some avg10=1.05 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 total=0\n");
  stats.memory_usage = 100;
  stats.memory_limit = ~u64{0};
  stats.swap_present = true;
  stats.swap_usage = 5;
  stats.swap_limit = 50;
  stats.cache = 7;
  stats.memory_stat.push({String("file"), 7});
  stats.pids = 2;
  stats.pids_limit = 9;
  parse_io_stat(stats, "8:0 rbytes=1 wbytes=0 rios=3\n");
  stats.hugetlb.push({String("2MB"), 4, 1});
  String text;
  JsonWriter out(text);
  write_stats(out, stats);
  const std::string expected =
      R"({"cpu":{"usage":{"total":5000,"kernel":2000,"user":3000},"throttling":{},)"
      R"("psi":{"some":{"avg10":1.05,"avg60":0.00,"avg300":0.00,"total":1},"full":{"avg10":0.00,"avg60":0.00,"avg300":0.00,"total":0}}},)"
      R"("cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,)"
      R"("memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},)"
      R"("memory":{"cache":7,"usage":{"limit":18446744073709551615,"usage":100,"failcnt":0},)"
      R"("swap":{"limit":18446744073709551615,"usage":105,"failcnt":0},"kernel":{"limit":0,"failcnt":0},)"
      R"("kernelTCP":{"limit":0,"failcnt":0},"raw":{"file":7}},"pids":{"current":2,"limit":9},)"
      R"("blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":1},{"major":8,"op":"Write"}],)"
      R"("ioServicedRecursive":[{"major":8,"op":"Read","value":3}]},"hugetlb":{"2MB":{"usage":4,"failcnt":1}},)"
      R"("intel_rdt":{},"network_interfaces":null})";
  CHECK(text.view() == expected);
  if (text.view() != expected) fprintf(stderr, "%s\n", text.c_str());
  CHECK(JsonDocument::parse(text));

  stats.memory_limit = 200;
  String limited;
  JsonWriter second(limited);
  write_stats(second, stats);
  CHECK(limited.view().find(R"("swap":{"limit":250,"usage":105,)") != string_view::npos);
}

void kernel(int root) {
  const std::string name = "caisson-stats-" + std::to_string(getpid());
  char text[1024];
  const string_view offered = *cgroup_read(root, "cgroup.controllers", text);
  Vec<string_view> controllers;
  for (const string_view each : {"memory", "pids", "io", "cpu", "hugetlb"})
    if (cgroup_has_word(offered, each)) controllers.push(each);
  const Vec<string_view>& wanted = controllers;
  CHECK(cgroup_ensure(root, name.c_str(), wanted));
  auto parent = cgroup_open(root, name.c_str());
  auto made = cgroup_create(parent->get(), "c");
  CHECK(made);
  const pid_t pid = fork();
  if (pid == 0) {
    if (!cgroup_write(made->get(), "cgroup.procs", std::to_string(getpid()))) _exit(1);
    static volatile char memory[4 << 20];
    for (size_t i = 0; i < sizeof memory; i += 4096) memory[i] = 1;
    for (;;) pause();
  }
  // cpu.stat is there without a controller, the others are not.
  for (int i = 0; i < 500; ++i) {
    auto stats = cgroup_stats(made->get());
    if (stats && stats->cpu_total != 0 && (!cgroup_has_word(offered, "memory") || stats->memory_usage >= (4 << 20)))
      break;
    usleep(10'000);
  }
  auto stats = cgroup_stats(made->get());
  CHECK(stats);
  if (stats) {
    CHECK(stats->cpu_total != 0);
    if (cgroup_has_word(offered, "memory")) {
      CHECK(stats->memory_usage >= (4 << 20) && stats->memory_limit == ~u64{0} && stats->memory_stat.size() > 20);
    } else {
      CHECK(stats->memory_usage == 0 && stats->memory_stat.empty());
    }
    if (cgroup_has_word(offered, "pids")) CHECK(stats->pids == 1 && stats->pids_limit == 0);
    if (cgroup_has_word(offered, "hugetlb")) CHECK(!stats->hugetlb.empty() && stats->hugetlb[0].usage == 0);
    String written;
    JsonWriter out(written);
    write_stats(out, *stats);
    CHECK(JsonDocument::parse(written));
  }
  CHECK(cgroup_destroy(root, name.c_str(), 5'000));
  CHECK(waitpid(pid, nullptr, 0) == pid);
  CHECK(!cgroup_stats(made->get()));
}

}  // namespace

int main() {
  parsers();
  json();
  auto mount = find_cgroup_mount();
  if (geteuid() == 0 && mount)
    kernel(mount->dir.get());
  else
    printf("skipped: needs root and a mount of cgroup2\n");
  return test::done();
}
