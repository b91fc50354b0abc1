// Limits for a cgroup in use: the compiler's rules everywhere, the kernel's where the controllers are (scripts/vm).
#include "core/cgroup_update.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "core/cgroup.h"
#include "core/compile.h"
#include "core/device_attach.h"
#include "test/check.h"

using namespace caisson;

namespace {

constexpr const char* kAll = "cpuset cpu io memory hugetlb pids rdma misc";

CgroupState in_force() {
  CgroupState state;
  state.controllers = String(kAll);
  state.cpu_quota = 40'000;
  state.cpu_period = 80'000;
  state.memory_max = 8192;
  state.memory_current = 4096;
  state.swap_current = 1024;
  return state;
}

// "memory.max=1 pids.max=2", or "error: …"
std::string compiled(const char* resources, const CgroupState& state) {
  auto update = compile_update(resources, state);
  if (!update) return std::string("error ") + std::to_string(update.error().err) + ": " + update.error().object;
  std::string text;
  const Vec<CgroupLimit> limits = update->limits();
  for (const CgroupLimit& limit : limits)
    text += (text.empty() ? "" : " ") + std::string(limit.file) + "=" + std::string(limit.value);
  return text;
}

void rules() {
  struct Case {
    const char* resources;
    const char* expected;
  };
  const Case cases[] = {
      {"{}", ""},
      {R"({"memory":{}})", ""},
      {R"({"memory":{"limit":16384}})", "memory.max=16384"},
      {R"({"memory":{"limit":16384,"swap":20480}})", "memory.swap.max=4096 memory.max=16384"},
      {R"({"memory":{"limit":4096,"swap":4096}})", "memory.swap.max=0 memory.max=4096"},
      {R"({"memory":{"swap":16384}})", "memory.swap.max=8192"},  // beside the limit in force
      {R"({"memory":{"swap":-1}})", "memory.swap.max=max"},
      {R"({"memory":{"limit":-1}})", "memory.swap.max=max memory.max=max"},
      {R"({"memory":{"reservation":4096}})", "memory.low=4096"},
      {R"({"memory":{"swap":4096}})",
       "error 22: memory.swap: is memory plus swap, and less than linux.resources.memory.limit"},
      {R"({"memory":{"limit":4096,"checkBeforeUpdate":true}})",
       "error 16: memory.limit: rejecting limit 4096, not above the 4096 bytes in use"},
      {R"({"memory":{"limit":4097,"checkBeforeUpdate":true}})", "memory.max=4097"},
      {R"({"memory":{"limit":4097,"swap":5120,"checkBeforeUpdate":true}})",
       "error 16: memory.swap: rejecting limit 5120, not above the 5120 bytes in use"},
      {R"({"memory":{"limit":4096,"checkBeforeUpdate":false}})", "memory.max=4096"},
      {R"({"memory":{"kernel":4096}})", "error 95: memory.kernel: cgroup v2 has no limit for kernel memory alone"},
      {R"({"cpu":{"quota":20000}})", "cpu.max=20000 80000"},
      {R"({"cpu":{"period":50000}})", "cpu.max=40000 50000"},
      {R"({"cpu":{"quota":-1}})", "cpu.max=max 80000"},
      {R"({"cpu":{"quota":20000,"period":50000,"burst":10000}})", "cpu.max.burst=10000 cpu.max=20000 50000"},
      {R"({"cpu":{"burst":0}})", "cpu.max.burst=0"},
      {R"({"cpu":{"idle":0,"shares":1024}})", "cpu.idle=0 cpu.weight=100"},
      {R"({"cpu":{"idle":1,"shares":1024}})", "cpu.weight=100 cpu.idle=1"},
      {R"({"cpu":{"cpus":"0-1","mems":""}})", "cpuset.cpus=0-1"},
      {R"({"cpu":{"realtimeRuntime":1000}})", "error 95: cpu.realtimeRuntime: cgroup v2 has no realtime bandwidth"},
      {R"({"pids":{"limit":0}})", "pids.max=0"},
      {R"({"pids":{"limit":-1}})", "pids.max=max"},
      {R"({"blockIO":{"weight":500}})", "io.bfq.weight=500 io.weight=4950"},
      {R"({"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}})", "io.max=8:0 rbps=5"},
      {R"({"hugepageLimits":[{"pageSize":"2MB","limit":0}]})", "hugetlb.2MB.max=0 hugetlb.2MB.rsvd.max=0"},
      {R"({"rdma":{"m":{"hcaObjects":3}}})", "rdma.max=m hca_object=3"},
      {R"({"unified":{"memory.high":"1\n2","x.y":"z"}})",
       "error 95: unified.x.y: controller 'x' is not available in this cgroup hierarchy"},
      {R"({"unified":{"io.max":"8:0 rbps=1\n8:16 rbps=2","cgroup.max.depth":"3"}})",
       "io.max=8:0 rbps=1 io.max=8:16 rbps=2 cgroup.max.depth=3"},
      {R"({"unified":{"memory.unknown":"z"}})", "memory.unknown=z"},  // written all the same: the kernel is to say
      {R"({"network":{"classID":1}})", "error 95: network.classID: cgroup v2 has no classes of packets"},
      {R"([])", "error 22: document: must be an object"},
  };
  const CgroupState state = in_force();
  for (const Case& each : cases) {
    const std::string got = compiled(each.resources, state);
    CHECK(got == each.expected);
    if (got != each.expected) fprintf(stderr, "%s: %s\n", each.resources, got.c_str());
  }
  CgroupState bare;
  CHECK(compiled(R"({"pids":{"limit":5}})", bare) ==
        "error 95: pids.limit: controller 'pids' is not available in this cgroup hierarchy");
  CHECK(!compile_update("{\"memory\":", state));

  auto devices = compile_update(R"({"devices":[{"allow":false,"access":"rwm"}]})", state);
  CHECK(devices && devices->devices() && !devices->program().empty());
  auto all = compile_update(R"({"devices":[{"allow":true,"access":"rwm"}]})", state);
  CHECK(all && all->devices() && all->program().empty());
  auto none = compile_update("{}", state);
  CHECK(none && !none->devices());
}

void phases() {
  const CgroupLimit limits[] = {{"pids.max", "0", 0},  {"memory.max", "5", 0}, {"pids.max", "19", 0},
                                {"pids.max", "20", 0}, {"pids.max", "max", 0}, {"cpu.weight", "1", 0}};
  const auto late = limits_of_phase(limits, LimitPhase::kAfterBirth);
  // with what comes after it and overrides it
  CHECK(late.size() == 4 && late[0].value == "0" && late[1].value == "19" && late[3].value == "max");
  CHECK(limits_of_phase(limits, LimitPhase::kBeforeBirth).size() == 2);
  const CgroupLimit large[] = {{"pids.max", "20", 0}, {"pids.max", "19", 0}};
  CHECK(limits_of_phase(large, LimitPhase::kAfterBirth).size() == 1);
  const CgroupLimit kinds[] = {{"memory.max", "1", 0},    {"cgroup.max.depth", "1", 0},
                               {"memory.high", "1", 0},   {"cpu.pressure", "1", 0},
                               {"io.bfq.weight", "1", 0}, {"io.weight", "1", kCgroupIfPreviousMissing}};
  const auto controllers = controllers_of(kinds);
  CHECK(controllers.size() == 2 && controllers[0] == "memory" && controllers[1] == "io");
}

std::string value_of(int cgroup, const char* file) {
  char text[4096];
  auto read = cgroup_read(cgroup, file, text);
  return read ? std::string(*read) : "error " + std::to_string(read.error().err);
}

Status update(int cgroup, const char* resources) {
  const CgroupState state = CAISSON_TRY(read_cgroup_state(cgroup));
  const CgroupUpdate compiled = CAISSON_TRY(compile_update(resources, state));
  const Vec<CgroupLimit> limits = compiled.limits();
  return apply_limits(cgroup, limits);
}

void kernel(int root) {
  string_view controllers[] = {"cpu", "memory", "pids", "io", "cpuset"};
  const std::string name = "caisson-update-" + std::to_string(getpid());
  auto parent = cgroup_ensure(root, name.c_str(), controllers);
  CHECK(parent);
  if (!parent) return;
  auto made = cgroup_create(parent->get(), "c");
  CHECK(made);
  const int cgroup = made->get();
  CHECK(update(cgroup, R"({"memory":{"limit":104857600,"swap":209715200},"pids":{"limit":7},"cpu":{"shares":512}})"));
  CHECK(value_of(cgroup, "memory.max") == "104857600" && value_of(cgroup, "memory.swap.max") == "104857600");
  CHECK(value_of(cgroup, "pids.max") == "7" && value_of(cgroup, "cpu.weight") == "59");
  CHECK(update(cgroup, R"({"memory":{"swap":115343360},"pids":{"limit":0}})"));
  CHECK(value_of(cgroup, "memory.swap.max") == "10485760" && value_of(cgroup, "pids.max") == "0");

  // The burst above the quota in force, the quota below the burst in force, and both as they were.
  CHECK(update(cgroup, R"({"cpu":{"quota":20000,"period":100000}})"));
  CHECK(update(cgroup, R"({"cpu":{"quota":60000,"burst":50000}})"));
  CHECK(value_of(cgroup, "cpu.max") == "60000 100000" && value_of(cgroup, "cpu.max.burst") == "50000");
  CHECK(update(cgroup, R"({"cpu":{"quota":10000,"burst":5000}})"));
  CHECK(value_of(cgroup, "cpu.max") == "10000 100000" && value_of(cgroup, "cpu.max.burst") == "5000");
  auto above = update(cgroup, R"({"cpu":{"burst":90000}})");
  CHECK(!above && above.error().err == EINVAL && string_view(above.error().object) == "cpu.max.burst");
  CHECK(update(cgroup, R"({"cpu":{"period":50000}})"));
  CHECK(value_of(cgroup, "cpu.max") == "10000 50000");

  CHECK(update(cgroup, R"({"cpu":{"idle":1}})"));
  CHECK(value_of(cgroup, "cpu.idle") == "1");
  CHECK(!update(cgroup, R"({"cpu":{"shares":1024}})"));  // the kernel refuses a weight for an idle cgroup
  CHECK(update(cgroup, R"({"cpu":{"idle":0,"shares":1024}})"));
  CHECK(value_of(cgroup, "cpu.idle") == "0" && value_of(cgroup, "cpu.weight") == "100");
  CHECK(update(cgroup, R"({"unified":{"memory.high":"50331648","memory.low":"4096"}})"));
  CHECK(value_of(cgroup, "memory.high") == "50331648");
  auto unknown = update(cgroup, R"({"unified":{"memory.caisson":"1"}})");
  CHECK(!unknown && unknown.error().err == ENOENT && string_view(unknown.error().object) == "memory.caisson");
  CHECK(update(cgroup, R"({"memory":{"limit":-1}})"));
  CHECK(value_of(cgroup, "memory.max") == "max");

  // In use: 24 MiB of a process.
  int ready[2];
  CHECK(pipe(ready) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    char c;
    if (read(ready[0], &c, 1) != 1) _exit(1);
    static char memory[24 << 20];
    for (size_t i = 0; i < sizeof memory; i += 4096) memory[i] = 1;
    for (;;) pause();
  }
  CHECK(update(cgroup, R"({"pids":{"limit":-1}})"));
  CHECK(cgroup_write(cgroup, "cgroup.procs", std::to_string(pid)));
  CHECK(write(ready[1], "x", 1) == 1);
  for (int i = 0; i < 1000; ++i) {
    if (read_cgroup_state(cgroup)->memory_current > (24u << 20)) break;
    usleep(10'000);
  }
  auto rejected = update(cgroup, R"({"memory":{"limit":16777216,"checkBeforeUpdate":true}})");
  CHECK(!rejected && rejected.error().err == EBUSY);
  CHECK(value_of(cgroup, "memory.max") == "max");
  CHECK(cgroup_destroy(root, name.c_str(), 10'000));
  CHECK(waitpid(pid, nullptr, 0) == pid);
}

// May a process in the cgroup open the node?
bool opens(int cgroup, const char* node) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (!cgroup_write(cgroup, "cgroup.procs", std::to_string(getpid()))) _exit(2);
    _exit(open(node, O_RDWR | O_CLOEXEC) < 0 ? 1 : 0);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 2);
  return WEXITSTATUS(status) == 0;
}

void devices(int root) {
  const std::string name = "caisson-devices-" + std::to_string(getpid());
  auto made = cgroup_create(root, name.c_str());
  CHECK(made);
  char node[] = "/tmp/caisson-node-XXXXXX";
  CHECK(mkdtemp(node) != nullptr);
  const std::string path = std::string(node) + "/kmsg";
  CHECK(mknod(path.c_str(), S_IFCHR | 0600, makedev(1, 11)) == 0);
  auto program = [](const char* rules) { return compile_device_rules(rules).take(); };
  const Vec<u64> none = program(R"([{"allow":false,"access":"rwm"}])");
  const Vec<u64> kmsg =
      program(R"([{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"rwm"}])");
  auto free = replace_device_program(made->get(), {}, "test");
  if (!free && free.error().err == EPERM) {
    printf("skipped: device programs need CAP_BPF in the initial user namespace\n");
  } else {
    CHECK(free);
    CHECK(opens(made->get(), path.c_str()));
    CHECK(replace_device_program(made->get(), none, "test"));
    CHECK(!opens(made->get(), path.c_str()) && opens(made->get(), "/dev/null"));
    auto attached = attached_device_program(made->get(), "test");
    CHECK(attached && *attached);
    // One takes the place of the other: were they both attached, the first would go on refusing.
    CHECK(replace_device_program(made->get(), kmsg, "test"));
    CHECK(opens(made->get(), path.c_str()));
    CHECK(replace_device_program(made->get(), none, "test"));
    CHECK(!opens(made->get(), path.c_str()));
    CHECK(replace_device_program(made->get(), {}, "test"));
    auto detached = attached_device_program(made->get(), "test");
    CHECK(detached && !*detached);
    CHECK(opens(made->get(), path.c_str()));
  }
  CHECK(unlink(path.c_str()) == 0 && rmdir(node) == 0);
  CHECK(cgroup_destroy(root, name.c_str(), 5'000));
}

std::string oom_score_of(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/oom_score_adj";
  char text[32] = {};
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
  close(fd);
  return text;
}

// Files that every cgroup has, and a process with a child.
void all_or_nothing(int root) {
  const std::string name = "caisson-change-" + std::to_string(getpid());
  auto made = cgroup_create(root, name.c_str());
  CHECK(made);
  const int cgroup = made->get();
  const pid_t pid = fork();
  if (pid == 0) {
    if (!cgroup_write(cgroup, "cgroup.procs", "0")) _exit(2);
    if (fork() < 0) _exit(3);
    for (;;) pause();
  }
  for (int i = 0; i < 1000 && cgroup_processes(cgroup)->size() < 2; ++i) usleep(1000);
  const int score = 400;
  const CgroupLimit good[] = {{"cgroup.max.descendants", "5", 0}, {"cgroup.max.depth", "2", 0}};
  CHECK(change_cgroup(cgroup, name, good, &score));
  CHECK(value_of(cgroup, "cgroup.max.descendants") == "5" && value_of(cgroup, "cgroup.max.depth") == "2");
  const Vec<int> pids = cgroup_processes(cgroup).take();
  CHECK(pids.size() == 2);
  for (const int each : pids) CHECK(oom_score_of(each) == "400\n");

  const int other = 500;
  const CgroupLimit bad[] = {{"cgroup.max.descendants", "6", 0}, {"cgroup.max.depth", "deep", 0}};
  auto refused = change_cgroup(cgroup, name, bad, &other);
  CHECK(!refused && refused.error().err == EINVAL && string_view(refused.error().object) == "cgroup.max.depth");
  const int beyond = 1001;
  const CgroupLimit more[] = {{"cgroup.max.descendants", "7", 0}};
  auto late = change_cgroup(cgroup, name, more, &beyond);
  CHECK(!late && late.error().err == EINVAL && string_view(late.error().object) == "oom_score_adj");
  CHECK(value_of(cgroup, "cgroup.max.descendants") == "5" && value_of(cgroup, "cgroup.max.depth") == "2");
  for (const int each : pids) CHECK(oom_score_of(each) == "400\n");

  // those of another cgroup are left alone, whatever the numbers are
  CHECK(change_cgroup(cgroup, "no-such-name", {}, &other));
  for (const int each : pids) CHECK(oom_score_of(each) == "400\n");
  CHECK(cgroup_destroy(root, name.c_str(), 10'000));
  CHECK(waitpid(pid, nullptr, 0) == pid);
}

}  // namespace

int main() {
  rules();
  phases();
  auto mount = find_cgroup_mount();
  if (geteuid() != 0 || !mount) {
    printf("skipped: needs root and a mount of cgroup2\n");
    return test::done();
  }
  devices(mount->dir.get());
  all_or_nothing(mount->dir.get());
  char text[1024];
  auto offered = cgroup_read(mount->dir.get(), "cgroup.controllers", text);
  if (offered && cgroup_has_word(*offered, "memory") && cgroup_has_word(*offered, "cpu"))
    kernel(mount->dir.get());
  else
    printf("skipped: the memory and cpu controllers are not in this hierarchy\n");
  return test::done();
}
