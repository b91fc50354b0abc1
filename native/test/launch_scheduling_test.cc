// How a container's process runs, and one that joins it: scheduler, I/O priority, affinity, memory policy, personality,
// clocks.
#include "core/process_words.h"
#include "test/launch.h"

using namespace caisson;
using namespace caisson::test;

namespace {

// Field `number` (from 1) of a line of /proc/<pid>/stat.
String stat_field(const String& text, int number) {
  string_view rest = text.view();
  for (int i = 1; i < number; ++i) {
    const size_t space = rest.find(' ');
    if (space == string_view::npos) return {};
    rest.remove_prefix(space + 1);
  }
  return String(part(rest, 0, rest.find(' ')));
}

constexpr const char* kStat[] = {"cat", "/proc/self/stat"};
constexpr const char* kSleep[] = {"sleep", "1000"};

// A container that sleeps, for others to join.
struct Target {
  Pod pod;
  Run main;

  template <typename Change>
  Target(World& w, bool user, Change change) : pod(make_pod(user, false)) {
    ContainerOptions o;
    o.user = user;
    PlanBuilder b = container(w, o, kSleep);
    change(b);
    PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
    main = start_container(w, &pod, plan.view());
    expect_ran(main, "target");
    release(main, plan.view());
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;
  ~Target() {
    sys::pidfd_send_signal(main.pidfd.get(), SIGKILL);
    end(main);
  }

  template <typename Change>
  Run exec(World& w, span<const char* const> args, Change change) {
    PlanBuilder b(PlanKind::kExec);
    b.process().cwd = b.string("/");
    b.process().flags = kProcessCapabilities;
    for (const char* arg : args) b.add_text(Section::kArgs, arg);
    b.add_text(Section::kEnv, "PATH=/bin");
    change(b);
    PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
    Run run = start(plan.view(), [&](int out) {
      Fd cgroup(open(w.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      ExecRequest request;
      request.plan = &plan.view();
      request.init = main.pidfd.get();
      request.cgroup = cgroup.get();
      request.stdio[1] = request.stdio[2] = out;
      return begin_exec(request);
    });
    if (run.failed) return run;
    release(run, plan.view());
    end(run);
    return run;
  }
};

template <typename Change>
Run run_with(World& w, bool user, span<const char* const> args, Change change) {
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  PlanBuilder b = container(w, o, args);
  change(b);
  return run_container(w, &pod, static_cast<PlanBuilder&&>(b));
}

struct SchedulerCase {
  SchedulerEntry entry;
  const char* nice;
  const char* priority;
  const char* policy;
};
constexpr SchedulerCase kSchedulers[] = {
    {{words::kSchedOther, -7, 0, 0, 0, 0, 0, 0}, "-7", "0", "0"},
    {{words::kSchedBatch, 5, 0, 0, 0, 0, 0, 0}, "5", "0", "3"},
    {{words::kSchedIdle, 0, 0, 0, 0, 0, 0, 0}, "0", "0", "5"},
    {{words::kSchedFifo, 0, 17, 0, 0, 0, 0, 0}, "0", "17", "1"},
    {{words::kSchedRr, 0, 1, 0, words::kSchedResetOnFork, 0, 0, 0}, "0", "1", "2"},
};

// The kernel shows the flag to reset on fork in no file; sched_getscheduler(2) has it.
void expect_scheduler(const Run& run, const SchedulerCase& c, const char* what) {
  expect_ran(run, what);
  const bool right = stat_field(run.output, 19).view() == c.nice && stat_field(run.output, 40).view() == c.priority &&
                     stat_field(run.output, 41).view() == c.policy;
  if (!right) fprintf(stderr, "%s, policy %s: %s", what, c.policy, run.output.c_str());
  CHECK(right);
}

void schedulers(World& w, bool user) {
  Target target(w, user, [](PlanBuilder&) {});
  for (const SchedulerCase& c : kSchedulers) {
    auto change = [&](PlanBuilder& b) {
      b.process().flags |= kProcessScheduler;
      b.process().scheduler = c.entry;
      b.process().uid = 1000;  // whose own it could not be
    };
    expect_scheduler(run_with(w, user, kStat, change), c, user ? "user namespace" : "container");
    expect_scheduler(target.exec(w, kStat, change), c, "exec");
  }
  // The flag reaches the process, and not only the first stage: its children are ordinary again.
  constexpr const char* kChild[] = {"sh", "-c", "cat /proc/self/stat; true"};
  Run child = run_with(w, user, kChild, [&](PlanBuilder& b) {
    b.process().flags |= kProcessScheduler;
    b.process().scheduler = {words::kSchedRr, 0, 1, 0, words::kSchedResetOnFork, 0, 0, 0};
  });
  expect_ran(child, "reset on fork");
  CHECK(stat_field(child.output, 41).view() == "0");
}

// Enough to see that all of its parameters arrive; without a user namespace, and only with every CPU.
void deadline(World& w) {
  auto change = [](PlanBuilder& b) {
    b.process().flags |= kProcessScheduler;
    b.process().scheduler = {words::kSchedDeadline, 0, 0, 0, 0, 2'000'000, 50'000'000, 100'000'000};
  };
  Run run = run_with(w, false, kStat, change);
  expect_ran(run, "deadline");
  CHECK(stat_field(run.output, 41).view() == "6");
  Target target(w, true, [](PlanBuilder&) {});
  Run exec = target.exec(w, kStat, change);
  expect_ran(exec, "deadline in a user namespace");
  CHECK(stat_field(exec.output, 41).view() == "6");

  auto bound = [&](PlanBuilder& b) {
    change(b);
    b.add(Section::kCpusFinal, u64{1});
  };
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) return;
  Run refused = target.exec(w, kStat, bound);
  CHECK(refused.failed && has(refused.error.message, "scheduler: operation not permitted (SCHED_DEADLINE needs"));
}

void io_priorities(World& w, bool user) {
  constexpr const char* kIonice[] = {"busybox", "ionice"};
  Target target(w, user, [](PlanBuilder&) {});
  struct {
    u32 value;
    const char* text;
  } const cases[] = {
      {1u << 13 | 3, "realtime: prio 3\n"}, {2u << 13 | 6, "best-effort: prio 6\n"}, {3u << 13, "idle\n"}};
  for (const auto& c : cases) {
    auto change = [&](PlanBuilder& b) {
      b.process().flags |= kProcessIoPriority;
      b.process().io_priority = c.value;
    };
    for (bool exec : {false, true}) {
      Run run = exec ? target.exec(w, kIonice, change) : run_with(w, user, kIonice, change);
      expect_ran(run, "I/O priority");
      if (run.output.view() != c.text) fprintf(stderr, "ionice: %s", run.output.c_str());
      CHECK(run.output.view() == c.text);
    }
  }
}

void memory_policies(World& w, bool user) {
  if (access("/proc/self/numa_maps", F_OK) != 0) return (void)printf("skipped: a kernel without NUMA\n");
  constexpr const char* kMaps[] = {"busybox", "head", "-n1", "/proc/self/numa_maps"};
  Target target(w, user, [](PlanBuilder&) {});
  struct {
    u32 mode;
    u64 nodes;
    const char* text;
  } const cases[] = {{words::kMpolInterleave, 1, " interleave:0 "},
                     {words::kMpolBind | words::kMpolStaticNodes, 1, " bind=static:0 "},
                     {words::kMpolPreferred | words::kMpolRelativeNodes, 1, "=relative:0 "},
                     {words::kMpolPreferred, 0, " local "},
                     {words::kMpolLocal, 0, " local "},
                     {words::kMpolDefault, 0, " default "}};
  for (const auto& c : cases) {
    auto change = [&](PlanBuilder& b) {
      b.process().flags |= kProcessMemoryPolicy;
      b.process().memory_mode = c.mode;
      b.process().memory_nodes[0] = c.nodes;
    };
    for (bool exec : {false, true}) {
      Run run = exec ? target.exec(w, kMaps, change) : run_with(w, user, kMaps, change);
      expect_ran(run, "memory policy");
      if (!has(run.output, c.text)) fprintf(stderr, "%s: %s", c.text, run.output.c_str());
      CHECK(has(run.output, c.text));
    }
  }
  Run absent = run_with(w, user, kMaps, [](PlanBuilder& b) {
    b.process().flags |= kProcessMemoryPolicy;
    b.process().memory_mode = words::kMpolBind;
    b.process().memory_nodes[kNodesMax / 64 - 1] = u64{1} << 63;
  });
  CHECK(absent.failed && has(absent.error.message, "memory policy: invalid argument (no such node is online"));
}

void personalities(World& w) {
  constexpr const char* kUname[] = {"busybox", "uname", "-m"};
  Target target(w, false, [](PlanBuilder&) {});
  String native;
  for (u32 persona : {0u, 8u}) {
    auto change = [&](PlanBuilder& b) {
      b.process().flags |= kProcessPersonality;
      b.process().personality = persona;
    };
    Run run = run_with(w, false, kUname, change);
    expect_ran(run, "personality");
    CHECK(target.exec(w, kUname, change).output.view() == run.output.view());
    if (persona == 0) native = String(run.output.view());
    CHECK(!run.output.empty() && (persona == 0 || run.output.view() != native.view()));
  }
}

String allowed(const Run& run) {
  const size_t at = run.output.view().find("Cpus_allowed_list:\t");
  if (at == string_view::npos) return {};
  const string_view rest = part(run.output.view(), at + 19);
  return String(part(rest, 0, rest.find('\n')));
}

void affinities(World& w, bool user) {
  constexpr const char* kStatus[] = {"cat", "/proc/self/status"};
  auto nothing = [](PlanBuilder&) {};
  Target target(w, user, nothing);
  const String all = allowed(target.exec(w, kStatus, nothing));
  CHECK(!all.empty());
  Run last = target.exec(w, kStatus, [](PlanBuilder& b) { b.add(Section::kCpusFinal, u64{1}); });
  expect_ran(last, "final affinity");
  CHECK(allowed(last).view() == "0");
  // Of the same cgroup, the kernel keeps what the parent had, which has its own back.
  u64 before[128] = {};
  u64 after[128] = {};
  CHECK(sys::sched_getaffinity(before, sizeof before) > 0);
  Run first = target.exec(w, kStatus, [](PlanBuilder& b) { b.add(Section::kCpusInitial, u64{1}); });
  expect_ran(first, "initial affinity");
  CHECK(sys::sched_getaffinity(after, sizeof after) > 0 && memcmp(before, after, sizeof before) == 0);
  Run both = target.exec(w, kStatus, [](PlanBuilder& b) {
    b.add(Section::kCpusInitial, u64{1});
    b.add(Section::kCpusFinal, ~u64{0});
  });
  CHECK(allowed(both).view() == all.view());
  Run none = target.exec(w, kStatus, [](PlanBuilder& b) {
    b.add(Section::kCpusFinal, u64{0});
    b.add(Section::kCpusFinal, u64{1} << 63);
  });
  CHECK(none.failed && has(none.error.message, "CPU affinity \"final\": invalid argument (none of these CPUs"));
  Run never = target.exec(w, kStatus, [](PlanBuilder& b) {
    b.add(Section::kCpusInitial, u64{0});
    b.add(Section::kCpusInitial, u64{1} << 63);
  });
  CHECK(never.failed && has(never.error.message, "sched_setaffinity process.execCPUAffinity.initial"));

  // What its caller is bound to is not the container's business.
  const u64 one = 1;
  CHECK(sys::sched_setaffinity(&one, sizeof one) == 0);
  const Run container = run_with(w, user, kStatus, nothing);
  const Run exec = target.exec(w, kStatus, nothing);
  sys::sched_setaffinity(before, sizeof before);
  CHECK(allowed(container).view() == all.view() && allowed(exec).view() == all.view());
}

void clocks(World& w, bool user) {
  constexpr const char* kClocks[] = {"sh", "-c",
                                     "readlink /proc/self/ns/time; cat /proc/self/timens_offsets /proc/uptime"};
  char own[64] = {};
  CHECK(readlink("/proc/self/ns/time", own, sizeof own - 1) > 0);
  auto offsets = [](PlanBuilder& b) {
    b.ns(NamespaceType::kTime).mode = NamespaceMode::kNew;
    b.head().monotonic = {-1, 5, 1};
    b.head().boottime = {1'000'000'000, 999'999'999, 1};
  };
  auto shows_offsets = [&](const Run& run) {
    expect_ran(run, "clocks");
    CHECK(!has(run.output, own) && has(run.output, "time:["));
    CHECK(has(run.output, "monotonic          -1         5"));
    CHECK(has(run.output, "boottime   1000000000 999999999"));
    CHECK(has(run.output, "\n1000") || has(run.output, "\n1001"));  // seconds of /proc/uptime
  };
  shows_offsets(run_with(w, user, kClocks, offsets));
  Target target(w, user, offsets);
  shows_offsets(target.exec(w, kClocks, [](PlanBuilder&) {}));

  Run plain = run_with(w, user, kClocks, [](PlanBuilder& b) { b.ns(NamespaceType::kTime).mode = NamespaceMode::kNew; });
  expect_ran(plain, "time namespace without offsets");
  CHECK(!has(plain.output, own) && has(plain.output, "monotonic           0         0"));
  Run host = run_with(w, user, kClocks, [](PlanBuilder&) {});
  CHECK(has(host.output, own));
  Run negative = run_with(w, user, kClocks, [](PlanBuilder& b) {
    b.ns(NamespaceType::kTime).mode = NamespaceMode::kNew;
    b.head().boottime = {-9'000'000'000, 0, 1};
  });
  CHECK(negative.failed && has(negative.error.message, "time offsets: ") &&
        has(negative.error.message, "(the clock would stand before 0"));

  // Joined by path: what the target has.
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(target.main.pid)).append("/ns/time");
  auto join = [&](PlanBuilder& b) {
    b.ns(NamespaceType::kTime).mode = NamespaceMode::kPath;
    b.ns(NamespaceType::kTime).path = b.string(path);
  };
  if (user) return;  // a namespace of another user namespace than the new container's own
  shows_offsets(run_with(w, user, kClocks, join));
  Run wrong = run_with(w, user, kClocks, [](PlanBuilder& b) {
    b.ns(NamespaceType::kTime).mode = NamespaceMode::kPath;
    b.ns(NamespaceType::kTime).path = b.string("/proc/self/ns/net");
  });
  CHECK(wrong.failed && wrong.error.err == EINVAL);
}

// What a caller without privileges may still ask for.
void rootless(World& w) {
  constexpr u32 kUser = 12345;
  shell(concat("cd ", w.dir, "/bind && mkdir -p proc dev sys"));  // which it may not make itself
  const int pid = fork();
  if (pid == 0) {
    checks = failures = 0;
    if (sys::setgroups(0, nullptr) != 0 || sys::setresgid(kUser) != 0 || sys::setresuid(kUser) != 0) abort();
    sys::prctl(uapi::kPrSetDumpable, 1);
    constexpr const char* kArgs[] = {"cat", "/proc/self/timens_offsets", "/proc/self/stat"};
    ContainerOptions o;
    o.overlay = false;
    o.shared = NamespaceMode::kNew;
    o.tty_group = false;
    auto run_as = [&](const SchedulerEntry& scheduler) {
      PlanBuilder b = container(w, o, kArgs);
      b.ns(NamespaceType::kUser).mode = b.ns(NamespaceType::kTime).mode = NamespaceMode::kNew;
      b.add(Section::kUidMap, IdMapping{0, kUser, 1});
      b.add(Section::kGidMap, IdMapping{0, kUser, 1});
      b.head().boottime = {86400, 0, 1};
      b.process().flags |= kProcessScheduler | kProcessIoPriority;
      b.process().scheduler = scheduler;
      b.process().io_priority = 2u << words::kIoClassShift | 7;
      return run_rootless(static_cast<PlanBuilder&&>(b));
    };
    const Run batch = run_as({words::kSchedBatch, 5, 0, 0, words::kSchedResetOnFork, 0, 0, 0});
    expect_ran(batch, "rootless");
    CHECK(has(batch.output, "boottime        86400         0\n"));
    const size_t stat = batch.output.view().rfind("\n", batch.output.size() - 2);
    const String line(part(batch.output.view(), stat + 1));
    CHECK(stat_field(line, 19).view() == "5" && stat_field(line, 41).view() == "3");
    if (failures != 0) fprintf(stderr, "%s", batch.output.c_str());
    const Run fifo = run_as({words::kSchedFifo, 0, 1, 0, 0, 0, 0, 0});
    CHECK(fifo.failed &&
          has(fifo.error.message, "scheduler: operation not permitted (needs CAP_SYS_NICE on the host)"));
    _exit(failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  CHECK(status == 0);
}

}  // namespace

int main() {
  return in_world([](World& world) {
    for (bool user : {false, true}) {
      schedulers(world, user);
      io_priorities(world, user);
      memory_policies(world, user);
      affinities(world, user);
      clocks(world, user);
    }
    deadline(world);
    personalities(world);
    rootless(world);
  });
}
