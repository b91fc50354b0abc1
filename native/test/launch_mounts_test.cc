// What is mounted in a container: propagation, volumes, the pod's shared memory, a hostile volume.
#include "test/launch.h"

using namespace caisson;
using namespace caisson::test;

namespace {

void shared_pid_and_shm(World& w, bool user) {
  Pod pod = make_pod(user, true);
  CHECK(pod.init && pod.init_pid > 0);
  ContainerOptions o;
  o.user = user;
  o.pid = NamespaceMode::kPod;
  constexpr const char* kFirst[] = {"sh", "-c", "echo shared > /dev/shm/f; sleep 1000"};
  PlanMap plan = sealed(container(w, o, kFirst));
  Run first = start_container(w, &pod, plan.view());
  expect_ran(first, "shared pid: first");
  release(first, plan.view());
  constexpr const char* kSecond[] = {
      "sh", "-c",
      "for i in 1 2 3 4 5 6 7 8 9; do test -e /dev/shm/f && break; sleep 0.1; done; cat /dev/shm/f; cat /proc/1/comm; "
      "ps; "
      "ls /proc/1/root/ 2>&1; echo $$; grep Shm /proc/meminfo >/dev/null; (sleep 0.01 &) ; kill -9 1; echo still-here"};
  Run second = run_container(w, &pod, container(w, o, kSecond));
  expect_ran(second, "shared pid: second");
  CHECK(has(second.output, "shared\ncaisson-init\n"));
  CHECK(has(second.output, "sleep 1000") && has(second.output, "still-here"));
  CHECK(has(second.output, "/proc/1/root/: Permission denied"));
  CHECK(!has(second.output, "\n1\n"));
  // The init ends only after those that die with it are reaped (pid_namespaces(7)), and they are our children.
  sys::pidfd_send_signal(pod.init.get(), SIGKILL);
  end(first);
  CHECK(first.signal == SIGKILL);
  drop(pod);
}

// In a mount namespace of the test's own whose tree is shared, as systemd leaves the host's.
void propagation(World& w, bool user) {
  String volume = concat(w.dir, "/volume");
  shell(concat(concat("mkdir -p ", volume, "/early "), volume, "/late"));
  if (mount("tmpfs", concat(volume, "/early").c_str(), "tmpfs", 0, "") != 0) abort();
  write_file(concat(volume, "/early/mark"), "e");
  String before = read_file("/proc/self/mountinfo");
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  constexpr const char* kWait[] = {
      "sh", "-c",
      "mkdir -p /both/inner; busybox mount -t tmpfs inner /both/inner && echo inner-mounted; echo ready; "
      "while ! test -e /both/late/mark; do sleep 0.05; done; ls /none/early /slave/early /both/early; "
      "ls /none/late | busybox wc -l; ls /slave/late; ls /both/late; grep -c /none /proc/self/mountinfo"};
  PlanBuilder b = container(w, o, kWait);
  for (u32 set : {kCapBounding, kCapEffective, kCapPermitted}) b.process().capabilities[set] |= 1u << 21;
  add_bind(b, volume, "/none", 0);
  add_bind(b, volume, "/slave", uapi::kMsSlave | uapi::kMsRec);
  add_bind(b, volume, "/both", uapi::kMsShared | uapi::kMsRec);
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, &pod, plan.view());
  expect_ran(run, "propagation");
  CHECK(read_file("/proc/self/mountinfo").view() == before.view());
  release(run, plan.view());
  char buffer[256];
  while (!has(run.output, "ready")) {
    ssize_t n = read(run.out.get(), buffer, sizeof buffer);
    if (n <= 0) break;
    run.output.append({buffer, static_cast<size_t>(n)});
  }
  // A mount of the container appears on the host through the Bidirectional volume.
  bool inner = has(run.output, "inner-mounted");
  CHECK(inner || user);
  if (inner) CHECK(has(read_file("/proc/self/mountinfo"), "/volume/inner"));
  if (mount("tmpfs", concat(volume, "/late").c_str(), "tmpfs", 0, "") != 0) abort();
  write_file(concat(volume, "/late/mark"), "l");
  end(run);
  CHECK(has(run.output, "/none/early:\nmark") && has(run.output, "/slave/early:\nmark") &&
        has(run.output, "/both/early:\nmark"));
  CHECK(has(run.output, "\n0\nmark\nmark\n"));
  umount2(concat(volume, "/inner").c_str(), MNT_DETACH);
  umount2(concat(volume, "/late").c_str(), MNT_DETACH);
  umount2(concat(volume, "/early").c_str(), MNT_DETACH);
}

// A source on a mount without a peer group can share nothing: said, where it was asked for, rather than ignored.
void source_that_cannot_propagate(World& w) {
  String source = concat(w.dir, "/own mount");
  String inner = concat(source, "/in");
  shell(concat("mkdir -p '", source, "'"));
  if (mount("tmpfs", source.c_str(), "tmpfs", 0, "") != 0 || mkdir(inner.c_str(), 0755) != 0) abort();
  Pod pod = make_pod(false, false);
  ContainerOptions o;
  constexpr const char* kArgs[] = {"sh", "-c", "grep -c ' /volume ' /proc/self/mountinfo"};
  auto with = [&](u64 on_host, u64 asked, u32 flags) {
    if (mount("", source.c_str(), nullptr, on_host, nullptr) != 0) abort();
    PlanBuilder b = container(w, o, kArgs);
    add_bind(b, inner, "/volume", static_cast<u32>(asked | uapi::kMsRec), flags | kMountRecursive);
    return run_container(w, &pod, static_cast<PlanBuilder&&>(b));
  };
  struct Case {
    u64 on_host;
    bool slave;
    bool shared;
  };
  for (const Case& each : {Case{MS_SHARED, true, true}, Case{MS_PRIVATE, false, false}}) {
    Run slave = with(each.on_host, uapi::kMsSlave, kMountCheckPropagation);
    CHECK(slave.failed != each.slave);
    Run shared = with(each.on_host, uapi::kMsShared, kMountCheckPropagation);
    CHECK(shared.failed != each.shared);
    if (each.shared) {
      expect_ran(slave, "slave of a shared mount");
      CHECK(has(slave.output, "1\n") && has(shared.output, "1\n"));
      continue;
    }
    CHECK(slave.error.err == EINVAL && has(slave.error.message, "neither shared nor a slave"));
    CHECK(shared.error.err == EINVAL && has(shared.error.message, "which is not shared"));
    String escaped = concat("is on the mount \"", concat(w.dir, "/own\\040mount"), "\"");
    for (const Run* run : {&slave, &shared}) {
      CHECK(has(run->error.message, concat("\"", inner, "\"").view()) && has(run->error.message, escaped.view()));
      CHECK(has(run->error.message, "\"/volume\""));
      CHECK(run->error.path.view() == inner.view());
    }
  }
  // Where nobody asked, the kernel's own way: as runc has it.
  expect_ran(with(MS_PRIVATE, uapi::kMsShared, 0), "unchecked");
  umount2(source.c_str(), MNT_DETACH);

  // A slave of a mount elsewhere receives, and passes on; it cannot be Bidirectional.
  String peer = concat(w.dir, "/peer");
  shell(concat("mkdir -p ", peer));
  if (mount("tmpfs", source.c_str(), "tmpfs", 0, "") != 0 || mkdir(inner.c_str(), 0755) != 0 ||
      mount(source.c_str(), peer.c_str(), nullptr, MS_BIND, nullptr) != 0)
    abort();
  expect_ran(with(MS_SLAVE, uapi::kMsSlave, kMountCheckPropagation), "slave of a slave");
  Run refused = with(MS_SLAVE, uapi::kMsShared, kMountCheckPropagation);
  CHECK(refused.failed && refused.error.err == EINVAL);
  umount2(source.c_str(), MNT_DETACH);
  umount2(peer.c_str(), MNT_DETACH);
}

void read_only_and_volumes(World& w) {
  Pod pod = make_pod(false, false);
  constexpr const char* kArgs[] = {
      "sh", "-c",
      "pwd; ls -d /data /made/by/runtime; touch /x 2>&1; cat /copied/passwd; touch /copied/y && echo copy-rw; "
      "cat /var-run/target; cat /file; umask"};
  ContainerOptions o;
  PlanBuilder b = container(w, o, kArgs);
  b.root().flags = kRootReadonly;
  b.add_text(Section::kVolumes, "/data");
  b.process().cwd = b.string("/made/by/runtime");
  MountEntry m;
  m.fstype = b.string("tmpfs");
  m.destination = b.string("/etc");
  m.flags = kMountCopyUp;
  b.add(Section::kMounts, m);
  m.destination = b.string("/copied");
  m.flags = 0;
  b.add(Section::kMounts, m);
  add_bind(b, concat(w.dir, "/layers/base/etc/passwd"), "/copied/passwd", 0);
  // A dangling symlink of the image on the way, and a file as target that is not there.
  add_bind(b, concat(w.dir, "/layers/top/marker"), "/var-run/target", 0);
  add_bind(b, concat(w.dir, "/layers/top/marker"), "/file", 0, kMountCreateSource);
  add_bind(b, concat(w.dir, "/created/on/host"), "/created", 0, kMountCreateSource);
  b.process().flags |= kProcessLookupUser | kProcessUmask;
  b.process().umask = 027;
  b.process().user = b.string("root");
  Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
  expect_ran(run, "read-only root");
  CHECK(has(run.output, "/made/by/runtime\n/data\n") && has(run.output, "touch: /x: Read-only file system"));
  CHECK(has(run.output, "root:x:0:0") && has(run.output, "copy-rw\non-top\non-top\n0027\n"));
  if (run.code != 0) fprintf(stderr, "%d %s", run.code, run.output.c_str());
  CHECK(access(concat(w.dir, "/created/on/host").c_str(), F_OK) == 0);
}

// CVE-2021-30465: a process of a shared volume swaps a directory and a symlink that leads to the host while containers
// are started with a mount below. Nothing may appear behind the symlink.
void racing_symlink(World& w) {
  String volume = concat(w.dir, "/race");
  String canary = concat(w.dir, "/canary");
  shell(concat(concat("mkdir -p ", volume, "/dir "), canary));
  String outside(string_view("/../../../../../../.."));
  outside.append(canary);
  if (symlink(outside.c_str(), concat(volume, "/link").c_str()) != 0) abort();
  String a = concat(volume, "/dir");
  String b_path = concat(volume, "/link");
  int racer = fork();
  if (racer == 0)
    for (;;) syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b_path.c_str(), 2 /* RENAME_EXCHANGE */);
  Pod pod = make_pod(false, false);
  int started = 0;
  for (int i = 0; i < 60; ++i) {
    constexpr const char* kArgs[] = {"busybox", "true"};
    ContainerOptions o;
    o.overlay = false;
    PlanBuilder b = container(w, o, kArgs);
    add_bind(b, volume, "/vol", 0);
    add_mount(b, "tmpfs", "/vol/dir/in/deep", "");
    Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
    started += !run.failed;
  }
  kill(racer, SIGKILL);
  waitpid(racer, nullptr, 0);
  CHECK(started > 0);
  CHECK(rmdir(canary.c_str()) == 0);  // it is empty still
}

}  // namespace

int main() {
  return in_world([](World& world) {
    for (bool user : {false, true}) {
      shared_pid_and_shm(world, user);
      propagation(world, user);
    }
    source_that_cannot_propagate(world);
    read_only_and_volumes(world);
    racing_symlink(world);
  });
}
