// Births: what a container finds around it, and how a birth fails. Natively and on Debian's 6.1 (vm-run).
//   launch_test [--measure]
#include "test/launch.h"

#include <time.h>

using namespace caisson;
using namespace caisson::test;

namespace {

constexpr const char* kLook[] = {
    "sh", "-c",
    "echo pid $$; hostname; id; cat /proc/self/cgroup /proc/self/mountinfo; grep -E 'Cap|NoNew|Seccomp|Groups' "
    "/proc/self/status; ls -l /proc/self/fd; cat /marker; cat /proc/sys/net/ipv4/ip_unprivileged_port_start "
    "/proc/sys/kernel/shmmax; readlink /proc/self/fd/0; echo x > /dev/null && echo null-works; echo y > /dev/stdout; "
    "cat /proc/kcore | busybox wc -c; ls /sys/firmware | busybox wc -l; touch /proc/sys/kernel/shmmax 2>&1; (echo 5 > "
    "/proc/sys/kernel/shmmax) 2>&1; cat /proc/net/dev; "
    "busybox ip addr show lo; exit 7"};

void look_around(World& w, bool user, bool overlay) {
  String before = read_file("/proc/self/mountinfo");
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  o.overlay = overlay;
  PlanBuilder b = container(w, o, kLook);
  if (!overlay) b.ns(NamespaceType::kCgroup).mode = NamespaceMode::kNew;
  Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
  expect_ran(run, "look_around");
  CHECK(run.code == 7);
  const String& out = run.output;
  bool ok_so_far = has(out, "pid 1\n") && has(out, "web-0\n") && has(out, "uid=0(root) gid=0(root)") &&
                   has(out, "0::/\n") && has(out, "\n81\n1234567\n") && has(out, "null-works") && has(out, "\ny\n") &&
                   has(out, "inet 127.0.0.1");
  CHECK(ok_so_far);
  CHECK(has(out, overlay ? "on-top\n" : "can't open '/marker'"));
  CHECK(has(out, "CapInh:\t0000000000000000"));
  CHECK(has(out, "CapPrm:\t00000000a80425fb"));
  CHECK(has(out, "CapBnd:\t00000000a80425fb"));
  CHECK(has(out, "CapAmb:\t0000000000000000"));
  CHECK(has(out, "NoNewPrivs:\t1"));
  CHECK(has(out, "/proc/kcore") && has(out, "\n0\n0\n"));
  CHECK(has(out, "/proc/sys ro,") && has(out, "Read-only file system"));
  CHECK(has(out, " / /sys/fs/cgroup ro"));
  CHECK(!has(out, "/l ") && !has(out, "/u "));
  if (getenv("CAISSON_TEST_SHOW") != nullptr || !ok_so_far) fprintf(stderr, "%s", out.c_str());
  CHECK(read_file("/proc/self/mountinfo").view() == before.view());
}

void failed_births(World& w, bool user) {
  String before = read_file("/proc/self/mountinfo");
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  auto expect = [&](string_view message, auto change, const char* arg0 = "busybox") {
    const char* args[] = {arg0, "true"};
    PlanBuilder b = container(w, o, args);
    change(b);
    Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
    if (!run.failed || !has(run.error.message, message))
      fprintf(stderr, "wanted \"%s\", got \"%s\" code %d\n", String(message).c_str(), run.error.message.c_str(),
              run.code);
    CHECK(run.failed && has(run.error.message, message));
  };
  auto nothing = [](PlanBuilder&) {};
  expect("exec: \"missing\": executable file not found in $PATH", nothing, "missing");
  expect("exec: \"/bin/missing\": no such file or directory", nothing, "/bin/missing");
  expect("exec: \"/etc/passwd\": permission denied", nothing, "/etc/passwd");
  // Looked up at the start: the same words and the same stage.
  for (const char* name : {"missing", "/bin/missing", "/etc/passwd", "/etc"}) {
    const char* args[] = {name};
    PlanBuilder b = container(w, o, args);
    b.process().flags |= kProcessLateLookup;
    PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
    Run run = start_container(w, &pod, plan.view());
    expect_ran(run, "look-up at the start");
    release(run, plan.view());
    const bool missing = has(String(name), "missing");
    CHECK(run.failed && string_view(run.error.stage) == "exec" && run.error.err == (missing ? ENOENT : EACCES));
    CHECK(has(run.error.message, name[0] == 'm' ? "executable file not found in $PATH"
                                 : missing      ? "no such file or directory"
                                                : "permission denied"));
    end(run);
  }
  expect("open source \"/no/such/source\" for \"/data\": no such file or directory",
         [](PlanBuilder& b) { add_bind(b, "/no/such/source", "/data", 0); });
  expect("mount \"/data\": no such device", [](PlanBuilder& b) { add_mount(b, "nosuchfs", "/data", ""); });
  expect("cwd \"/marker\": not a directory", [](PlanBuilder& b) { b.process().cwd = b.string("/marker"); });
  // CVE-2024-21626: no descriptor of the host is there to be found.
  for (const char* cwd :
       {"/proc/self/fd/3", "/proc/self/fd/5", "/proc/self/fd/7", "/proc/self/fd/8", "/proc/self/fd/12"})
    expect("cwd", [cwd](PlanBuilder& b) { b.process().cwd = b.string(cwd); });
  if (!user)
    expect("device \"/dev/null\": file exists", [](PlanBuilder& b) {
      DeviceEntry d;
      d.path = b.string("/dev/null");
      d.type = S_IFCHR;
      d.major = 1;
      d.minor = 9;
      b.add(Section::kDevices, d);
    });
  expect("open root", [](PlanBuilder& b) { b.root() = {RootKind::kBind, 0, 0, b.string("/no/such/root"), {}}; });
  expect("mount overlay", [](PlanBuilder& b) { b.add_text(Section::kLayers, "no-such-layer"); });
  expect("sysctl \"net/no/such\"", [](PlanBuilder& b) {
    b.add(Section::kSysctls, SysctlEntry{b.string("net/no/such"), b.string("1")});
  });
  // CVE-2019-16884, CVE-2026-41579: a root whose /proc or /dev is a symlink.
  shell(concat("mkdir -p ", w.dir, concat("/evil/bin && cp /bin/busybox ", w.dir, "/evil/bin/busybox")));
  for (const char* name : {"proc", "dev", "sys"}) {
    String link = concat(w.dir, "/evil/", name);
    shell(concat(concat("cd ", w.dir, "/evil && rm -rf proc dev sys && mkdir proc dev sys && rmdir "), name));
    if (symlink("/tmp", link.c_str()) != 0) abort();
    expect("a symlink of the image is in the way", [&](PlanBuilder& b) {
      b.root() = {RootKind::kBind, 0, 0, b.string(concat(w.dir, "/evil")), {}};
    });
    unlink(link.c_str());
  }
  CHECK(read_file("/proc/self/mountinfo").view() == before.view());
}

// A spec with namespaces of its own and no pod: what caisson-oci starts.
void without_pod(World& w, bool user) {
  ContainerOptions o;
  o.shared = NamespaceMode::kNew;
  o.overlay = false;
  constexpr const char* kArgs[] = {"sh", "-c",
                                   "hostname; id -u; cat /proc/self/uid_map; echo $$; cat /proc/sys/kernel/shmmax"};
  PlanBuilder b = container(w, o, kArgs);
  b.head().hostname = b.string("alone");
  b.add(Section::kSysctls, SysctlEntry{b.string("kernel/shmmax"), b.string("7654321")});
  if (user) {
    b.ns(NamespaceType::kUser).mode = NamespaceMode::kNew;
    b.add(Section::kUidMap, IdMapping{0, 200000, 1000});
    b.add(Section::kGidMap, IdMapping{0, 200000, 1000});
  }
  Run run = run_container(w, nullptr, static_cast<PlanBuilder&&>(b));
  expect_ran(run, "without pod");
  CHECK(has(run.output, "alone\n0\n") && has(run.output, "\n1\n7654321\n"));
  if (user) CHECK(has(run.output, "200000"));
}

void many_layers(World& w) {
  String layers(string_view("cd "));
  layers.append(w.dir).append("/layers && for i in $(seq 100 224); do mkdir -p abcdefghijklmnopqrstuvw$i; done");
  shell(layers);
  Pod pod = make_pod(false, false);
  constexpr const char* kArgs[] = {"cat", "/marker"};
  ContainerOptions o;
  PlanBuilder b = container(w, o, kArgs);
  for (int i = 100; i < 225; ++i) {
    String name(string_view("abcdefghijklmnopqrstuvw"));
    name.append_u64(static_cast<u64>(i));
    b.add_text(Section::kLayers, name);
  }
  Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
  expect_ran(run, "127 layers");
  CHECK(has(run.output, "on-top"));
}

double now_ms() {
  timespec t = {};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

struct Series {
  double values[200];
  int n = 0;
  void add(double v) { values[n++] = v; }
  void print(const char* name) {
    for (int i = 1; i < n; ++i)
      for (int j = i; j > 0 && values[j] < values[j - 1]; --j) std::swap(values[j], values[j - 1]);
    printf("%-44s min %.2f  p10 %.2f  p50 %.2f ms (%d)\n", name, values[0], values[n / 10], values[n / 2], n);
  }
};

void measure(World& w, bool user, bool overlay) {
  Series pods;
  Series ready;
  Series go;
  Series exec_ready;
  Series exec_go;
  PlanMap pod_blob = pod_plan(user, false);
  ContainerOptions o;
  o.user = user;
  o.overlay = overlay;
  constexpr const char* kArgs[] = {"/bin/busybox", "true"};
  for (int i = 0; i < 50; ++i) {
    double t0 = now_ms();
    auto pod = create_pod(pod_blob.view());
    pods.add(now_ms() - t0);
    PlanMap plan = sealed(container(w, o, kArgs));
    double t1 = now_ms();
    Run run = start_container(w, &*pod, plan.view());
    double t2 = now_ms();
    release(run, plan.view());
    double t3 = now_ms();
    ready.add(t2 - t1);
    go.add(t3 - t2);
    end(run);
    constexpr const char* kSleep[] = {"/bin/sleep", "1000"};
    PlanMap long_plan = sealed(container(w, o, kSleep));
    Run main_run = start_container(w, &*pod, long_plan.view());
    release(main_run, long_plan.view());
    PlanBuilder b(PlanKind::kExec);
    b.process().cwd = b.string("/");
    for (const char* arg : kArgs) b.add_text(Section::kArgs, arg);
    PlanMap exec_plan = sealed(static_cast<PlanBuilder&&>(b));
    double t4 = now_ms();
    Run exec = start(exec_plan.view(), [&](int out) {
      ExecRequest request;
      request.plan = &exec_plan.view();
      request.init = main_run.pidfd.get();
      request.stdio[1] = request.stdio[2] = out;
      return begin_exec(request);
    });
    double t5 = now_ms();
    release(exec, exec_plan.view());
    exec_go.add(now_ms() - t5);
    exec_ready.add(t5 - t4);
    end(exec);
    sys::pidfd_send_signal(main_run.pidfd.get(), SIGKILL);
    end(main_run);
    if (run.failed || run.code != 0) abort();
  }
  printf("%s root, %s user namespace\n", overlay ? "overlay" : "bind", user ? "own" : "no");
  pods.print("  create_pod");
  ready.print("  begin_birth to kReady");
  go.print("  release to exec");
  exec_ready.print("  begin_exec to kReady");
  exec_go.print("  release to exec, exec");
}

}  // namespace

int main(int argc, char** argv) {
  const bool measured = argc > 1 && string_view(argv[1]) == "--measure";
  return in_world([measured](World& world) {
    for (bool user : {false, true}) {
      if (measured) {
        for (bool overlay : {false, true}) measure(world, user, overlay);
        continue;
      }
      for (bool overlay : {true, false}) look_around(world, user, overlay);
      failed_births(world, user);
      without_pod(world, user);
    }
    if (!measured) many_layers(world);
  });
}
