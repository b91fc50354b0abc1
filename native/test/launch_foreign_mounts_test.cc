// Containers without a mount namespace of their own: in the host's, or in one that they join by its path. Their root is
// theirs all the same, and the namespace does not change.
#include "test/launch_config.h"

using namespace caisson;
using namespace caisson::test;

namespace {

constexpr char kScript[] =
    "readlink /proc/self/ns/mnt; grep -c . /proc/self/mountinfo; ls /; cat /m/in/file; pwd; touch /proc/sys/x /ro/y "
    "2>&1; "
    "cat /proc/timer_list | busybox wc -c; echo $$; ls -l /dev/fd | busybox wc -l";
constexpr char kOthers[] = R"({"type":"pid"},{"type":"ipc"},{"type":"uts"})";

Config foreign(World& w) {
  Config c;
  c.script = kScript;
  String volume = concat(w.dir, "/volume");
  c.mounts = String(R"(,{"destination":"/m","type":"bind","source":")");
  c.mounts.append(volume).append(R"(","options":["rbind"]},{"destination":"/ro","type":"tmpfs","options":["ro"]})");
  c.linux = String(R"(,"maskedPaths":["/proc/timer_list"],"readonlyPaths":["/proc/sys"])");
  return c;
}

void expect_root(const Run& run, const char* namespace_link, const char* what) {
  char link[64] = {};
  CHECK(readlink(namespace_link, link, sizeof link - 1) > 0);
  expect_output(run, concat(link, "\n0\n"), what);  // what is mounted in the container is in nobody's mountinfo
  CHECK(has(run.output, "\nbin\n") && has(run.output, "\nin the volume\n/\n"));
  CHECK(has(run.output, "touch: /proc/sys/x: ") && has(run.output, "touch: /ro/y: Read-only file system"));
  CHECK(has(run.output, "\n0\n1\n1\n"));
}

String with_spaces(World& w) {
  String volume = concat(w.dir, "/volume/in");
  shell(concat("mkdir -p ", volume));
  if (mount("tmpfs", volume.c_str(), "tmpfs", 0, "") != 0) abort();
  write_file(concat(volume, "/file"), "in the volume\n");
  return volume;
}

void in_the_hosts(World& w) {
  String volume = with_spaces(w);
  Config c = foreign(w);
  c.namespaces = kOthers;
  String before = read_file("/proc/self/mountinfo");
  Run run = run_config(w, c);
  expect_root(run, "/proc/self/ns/mnt", "host's mount namespace");
  CHECK(read_file("/proc/self/mountinfo").view() == before.view());
  umount2(volume.c_str(), MNT_DETACH);
}

// A process that only waits, in a mount namespace of its own.
struct Other {
  int pid;
  Other() : pid(fork()) {
    if (pid != 0) {
      usleep(50'000);
      return;
    }
    sys::unshare(uapi::kCloneNewns);
    for (;;) pause();
  }
  ~Other() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  String file(const char* name) const {
    String path(string_view("/proc/"));
    path.append_u64(static_cast<u64>(pid)).append(name);
    return path;
  }
};

void by_path(World& w) {
  String volume = with_spaces(w);
  Other other;
  String path = other.file("/ns/mnt");
  String namespaces(string_view(R"({"type":"mount","path":")"));
  namespaces.append(path).append("\"},").append(kOthers);
  Config c = foreign(w);
  c.namespaces = namespaces.c_str();
  String before = read_file(other.file("/mountinfo").c_str());
  Run run = run_config(w, c);
  expect_root(run, path.c_str(), "joined mount namespace");
  CHECK(read_file(other.file("/mountinfo").c_str()).view() == before.view());

  String wrong(string_view(R"({"type":"mount","path":")"));
  wrong.append(other.file("/ns/net")).append("\"}");
  c.namespaces = wrong.c_str();
  expect_error(run_config(w, c), EINVAL, "/ns/net", "a network namespace for a mount namespace");
  umount2(volume.c_str(), MNT_DETACH);
}

String exec_in(const Run& container, bool joined) {
  PlanBuilder b(PlanKind::kExec);
  b.process().cwd = b.string("/");
  for (const char* arg : {"sh", "-c", "ls /m/in; readlink /proc/self/ns/mnt; pwd; test -e /var && echo outside"})
    b.add_text(Section::kArgs, arg);
  b.add_text(Section::kEnv, "PATH=/bin");
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start(plan.view(), [&](int out) {
    ExecRequest request;
    request.plan = &plan.view();
    request.init = container.pidfd.get();
    request.stdio[1] = request.stdio[2] = out;
    request.joined_mounts = joined;
    return begin_exec(request);
  });
  expect_ran(run, "exec");
  release(run, plan.view());
  end(run);
  return static_cast<String&&>(run.output);
}

void exec_finds_the_root(World& w) {
  String volume = with_spaces(w);
  Other other;
  for (bool joined : {false, true}) {
    String namespaces(string_view(R"({"type":"mount","path":")"));
    namespaces.append(other.file("/ns/mnt")).append("\"},").append(kOthers);
    Config c = foreign(w);
    c.namespaces = joined ? namespaces.c_str() : kOthers;
    c.script = "sleep 1000";
    auto compiled = compile_container(config_json(w, c));
    if (!compiled) abort();
    auto plan = PlanView::parse({compiled->plan.data(), compiled->plan.size()});
    Run run = start_container(w, nullptr, *plan);
    expect_ran(run, "container to exec in");
    release(run, *plan);
    char link[64] = {};
    CHECK(readlink(joined ? other.file("/ns/mnt").c_str() : "/proc/self/ns/mnt", link, sizeof link - 1) > 0);
    String output = exec_in(run, joined);
    CHECK(output.view() == concat("file\n", link, "\n/\n").view());
    sys::pidfd_send_signal(run.pidfd.get(), SIGKILL);
    end(run);
  }
  umount2(volume.c_str(), MNT_DETACH);
}

}  // namespace

int main() {
  return in_world([](World& world) {
    in_the_hosts(world);
    by_path(world);
    exec_finds_the_root(world);
  });
}
