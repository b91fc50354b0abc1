// Pods, containers and exec'd processes on a real kernel, as root. Natively and on Debian's 6.1 (vm-run).
//   launch_test [--measure]
#include "core/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "core/sys.h"
#include "core/uapi.h"
#include "core/user_namespace.h"
#include "test/check.h"

using namespace caisson;

namespace {

String concat(string_view a, string_view b, string_view c = {}) {
  String out(a);
  out.append(b).append(c);
  return out;
}

String read_file(const char* path) {
  String out;
  Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  for (ssize_t n; fd && (n = read(fd.get(), buffer, sizeof buffer)) > 0;) out.append({buffer, static_cast<size_t>(n)});
  return out;
}

void write_file(string_view path, string_view text, mode_t mode = 0644) {
  Fd fd(open(String(path).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    perror("write_file"), abort();
}

bool has(const String& text, string_view part) { return text.view().find(part) != string_view::npos; }

void shell(string_view command) {
  if (system(String(command).c_str()) != 0) fprintf(stderr, "command failed: %s\n", String(command).c_str());
}

// Everything on disk and in the cgroup tree, removed at the end.
struct World {
  String dir;     // layers/, volumes, bind roots; on a file system that takes idmaps
  String cgroup;  // directory
  u32 uppers = 0;

  World() {
    const char* scratch = getenv("CAISSON_TEST_DIR");
    dir = concat(scratch != nullptr ? scratch : "/var/tmp", "/caisson-launch-");
    dir.append_u64(static_cast<u64>(getpid()));
    cgroup = String(access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified");
    cgroup.append("/caisson-test-").append_u64(static_cast<u64>(getpid()));
    String script(
        string_view("set -e; mkdir -p D/layers/base/bin D/layers/base/etc D/layers/base/tmp D/layers/top D/volume\n"
                    "cp /bin/busybox D/layers/base/bin/busybox\n"
                    "for a in sh cat id ls hostname sleep mount touch umount stat ps env kill tty stty readlink; do "
                    "ln -s busybox D/layers/base/bin/$a; done\n"
                    "chmod 1777 D/layers/base/tmp; ln -s /run D/layers/base/var-run\n"
                    "echo on-top > D/layers/top/marker\n"
                    "cp -a D/layers/base D/bind\n"
                    "mkdir -p C\n"));
    String filled;
    for (char c : script.view()) {
      if (c == 'D')
        filled.append(dir);
      else if (c == 'C')
        filled.append(cgroup);
      else
        filled.append(c);
    }
    shell(filled);
    string_view passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n";
    string_view group = "root:x:0:\nwww:x:1001:\nextra:x:2002:web,other\nnot:x:2003:webber\n";
    for (const char* root : {"/layers/base", "/bind"}) {
      write_file(concat(dir, root, "/etc/passwd"), passwd);
      write_file(concat(dir, root, "/etc/group"), group);
    }
  }
  ~World() {
    shell(concat("rm -rf ", dir));
    rmdir(cgroup.c_str());
  }
  String upper() {
    String path = concat(dir, "/upper-");
    path.append_u64(++uppers);
    shell(concat(concat("mkdir -p ", path, "/upper "), path, "/work"));
    return path;
  }
};

void add_mount(PlanBuilder& b, string_view type, string_view destination, string_view data, u64 attrs = 0) {
  MountEntry m;
  m.fstype = b.string(type);
  m.destination = b.string(destination);
  m.data = b.string(data);
  m.attr_set = attrs;
  b.add(Section::kMounts, m);
}

void add_bind(PlanBuilder& b, string_view source, string_view destination, u32 propagation,
              u32 flags = kMountRecursive) {
  MountEntry m;
  m.kind = MountKind::kBind;
  m.flags = flags;
  m.source = b.string(source);
  m.destination = b.string(destination);
  m.propagation = propagation;
  b.add(Section::kMounts, m);
}

struct ContainerOptions {
  bool overlay = true;
  bool user = false;
  NamespaceMode pid = NamespaceMode::kNew;
  NamespaceMode shared = NamespaceMode::kPod;
};

PlanBuilder container(World& w, const ContainerOptions& o, span<const char* const> args) {
  PlanBuilder b(PlanKind::kContainer);
  b.head().id = b.string("0123456789abcdef");
  for (NamespaceType t : {NamespaceType::kNetwork, NamespaceType::kIpc, NamespaceType::kUts}) b.ns(t).mode = o.shared;
  if (o.user) b.ns(NamespaceType::kUser).mode = NamespaceMode::kPod;
  b.ns(NamespaceType::kPid).mode = o.pid;
  b.ns(NamespaceType::kMount).mode = NamespaceMode::kNew;
  b.ns(NamespaceType::kCgroup).mode = NamespaceMode::kNew;
  if (o.overlay) {
    b.root() = {RootKind::kOverlay, 0, 0, b.string(concat(w.dir, "/layers")), b.string(w.upper())};
    b.add_text(Section::kLayers, "top");
    b.add_text(Section::kLayers, "base");
  } else {
    b.root() = {RootKind::kBind, 0, 0, b.string(concat(w.dir, "/bind")), {}};
  }
  add_mount(b, "proc", "/proc", "", uapi::kMountAttrNosuid | uapi::kMountAttrNodev | uapi::kMountAttrNoexec);
  add_mount(b, "tmpfs", "/dev", "mode=755,size=65536k", uapi::kMountAttrNosuid | uapi::kMountAttrStrictatime);
  add_mount(b, "devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", uapi::kMountAttrNosuid);
  add_mount(b, "mqueue", "/dev/mqueue", "", uapi::kMountAttrNosuid);
  add_mount(b, "sysfs", "/sys", "", uapi::kMountAttrRdonly | uapi::kMountAttrNosuid);
  add_mount(b, "cgroup2", "/sys/fs/cgroup", "", uapi::kMountAttrRdonly | uapi::kMountAttrNosuid);
  MountEntry shm;
  shm.kind = MountKind::kPodShm;
  shm.destination = b.string("/dev/shm");
  if (o.shared == NamespaceMode::kPod) b.add(Section::kMounts, shm);
  struct Node {
    const char* path;
    u32 minor;
  };
  for (Node n : {Node{"/dev/null", 3}, Node{"/dev/zero", 5}, Node{"/dev/full", 7}, Node{"/dev/urandom", 9}}) {
    DeviceEntry d;
    d.path = b.string(n.path);
    d.type = S_IFCHR;
    d.major = 1;
    d.minor = n.minor;
    d.mode = 0666;
    b.add(Section::kDevices, d);
  }
  b.add(Section::kLinks, LinkEntry{b.string("/dev/fd"), b.string("/proc/self/fd")});
  b.add(Section::kLinks, LinkEntry{b.string("/dev/stdout"), b.string("/proc/self/fd/1")});
  b.add(Section::kLinks, LinkEntry{b.string("/dev/ptmx"), b.string("pts/ptmx")});
  for (const char* path : {"/proc/kcore", "/proc/timer_list", "/proc/scsi", "/sys/firmware", "/proc/absent"})
    b.add_text(Section::kMasked, path);
  for (const char* path : {"/proc/sys", "/proc/bus"}) b.add_text(Section::kReadonly, path);
  ProcessEntry& p = b.process();
  p.cwd = b.string("/");
  p.flags = kProcessCapabilities | kProcessNoNewPrivileges | kProcessNewKeyring;
  for (u32 set : {kCapBounding, kCapEffective, kCapPermitted}) p.capabilities[set] = 0xa80425fb;
  for (const char* arg : args) b.add_text(Section::kArgs, arg);
  b.add_text(Section::kEnv, "PATH=/usr/bin:/bin");
  return b;
}

// A plan as the monitor has it: mapped from a sealed memfd.
PlanMap sealed(PlanBuilder b) {
  auto blob = b.finish();
  if (!blob) {
    fprintf(stderr, "plan: %s %s\n", blob.error().call, blob.error().object);
    abort();
  }
  int fd = memfd_create("plan", uapi::kMfdCloexec | uapi::kMfdAllowSealing);
  if (write(fd, blob->data(), blob->size()) != static_cast<ssize_t>(blob->size())) abort();
  fcntl(fd, uapi::kFAddSeals, uapi::kSealWrite | uapi::kSealShrink | uapi::kSealGrow);
  auto map = PlanMap::map(fd);
  close(fd);
  if (!map) abort();
  return map.take();
}

PlanMap pod_plan(bool user, bool pid, bool own = true) {
  PlanBuilder b(PlanKind::kPod);
  b.head().id = b.string("pod");
  b.head().hostname = b.string("web-0");
  b.head().shm_size = 1 << 20;
  if (own)
    for (NamespaceType t : {NamespaceType::kNetwork, NamespaceType::kIpc, NamespaceType::kUts})
      b.ns(t).mode = NamespaceMode::kNew;
  if (pid) b.ns(NamespaceType::kPid).mode = NamespaceMode::kNew;
  if (user) {
    b.ns(NamespaceType::kUser).mode = NamespaceMode::kNew;
    b.add(Section::kUidMap, IdMapping{0, 100000, 65536});
    b.add(Section::kGidMap, IdMapping{0, 100000, 65536});
  }
  if (own) {
    b.add(Section::kSysctls, SysctlEntry{b.string("net/ipv4/ip_unprivileged_port_start"), b.string("81")});
    b.add(Section::kSysctls, SysctlEntry{b.string("kernel/shmmax"), b.string("1234567")});
    b.add(Section::kSysctls, SysctlEntry{b.string("kernel/shm_rmid_forced"), b.string("1")});
  }
  return sealed(static_cast<PlanBuilder&&>(b));
}

// One process driven to its end, as a blocking caller does.
struct Run {
  bool failed = false;
  BirthError error;
  GateReport ready;
  int pid = 0;
  Fd pidfd;
  Fd gate;
  Fd out;
  Fd terminal;
  String output;
  int code = -1;
  int signal = 0;

  void reap(const Fd& fd) {
    siginfo_t info = {};
    waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(fd.get()), &info, WEXITED);
    code = info.si_code == CLD_EXITED ? info.si_status : -1;
    signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
  }
  void until_ready(const PlanView& plan) {
    fcntl(gate.get(), F_SETFL, 0);
    for (;;) {
      Fd passed;
      auto report = read_gate(gate.get(), passed);
      if (!report || report->kind == 0) {
        fprintf(stderr, "gate: end of file\n");
        failed = true;
        return;
      }
      if (report->kind == GateReport::kFailed) {
        failed = true;
        error = describe_failure(plan, *report);
        reap(pidfd);
        return;
      }
      if (report->kind == GateReport::kChild) {
        reap(pidfd);  // stage 1
        pid = report->pid;
        pidfd = Fd(passed.release());
      }
      if (report->kind == GateReport::kTerminal) terminal = Fd(passed.release());
      if (report->kind == GateReport::kReady) {
        ready = *report;
        return;
      }
    }
  }
  // After the release: false if exec failed.
  bool exec_done(const PlanView& plan) {
    Fd passed;
    auto report = read_gate(gate.get(), passed);
    if (report && report->kind == GateReport::kFailed) {
      failed = true;
      error = describe_failure(plan, *report);
      return false;
    }
    return true;
  }
  void drain() {
    char buffer[4096];
    for (ssize_t n; (n = read(out.get(), buffer, sizeof buffer)) > 0;) output.append({buffer, static_cast<size_t>(n)});
  }
};

template <typename Begin>
Run start(const PlanView& plan, Begin begin) {
  Run run;
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) abort();
  run.out = Fd(fds[0]);
  Fd in(fds[1]);
  Result<Birth> birth = begin(in.get());
  if (!birth) {
    run.failed = true;
    run.error.err = birth.error().err;
    run.error.message = concat(birth.error().call, " ", birth.error().object);
    return run;
  }
  run.pid = birth->pid;
  run.pidfd = Fd(birth->pidfd.release());
  run.gate = Fd(birth->gate.release());
  in.reset();
  run.until_ready(plan);
  return run;
}

Run start_container(World& w, const Pod* pod, const PlanView& plan) {
  return start(plan, [&](int out) {
    Fd cgroup(open(w.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    BirthRequest request;
    request.plan = &plan;
    request.pod = pod != nullptr ? &pod->ns : nullptr;
    request.cgroup = cgroup.get();
    request.stdio[1] = request.stdio[2] = out;
    return begin_birth(request);
  });
}

void release(Run& run, const PlanView& plan) {
  if (run.failed) return;
  CHECK(release_gate(run.gate.get()));
  run.exec_done(plan);
}

void end(Run& run) {
  run.drain();
  if (run.pidfd) run.reap(run.pidfd);
}

// Runs to the end; prints what failed, so that a test that breaks says why.
Run run_container(World& w, const Pod* pod, PlanBuilder b) {
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, pod, plan.view());
  if (!run.failed) {
    release(run, plan.view());
    end(run);
  }
  return run;
}

void expect_ran(const Run& run, const char* what) {
  if (run.failed) fprintf(stderr, "%s: %s (errno %d)\n", what, run.error.message.c_str(), run.error.err);
  CHECK(!run.failed);
}

void drop(Pod& pod) {
  if (!pod.init) return;
  sys::pidfd_send_signal(pod.init.get(), SIGKILL);
  siginfo_t info = {};
  waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pod.init.get()), &info, WEXITED);
}

Pod make_pod(bool user, bool pid, bool own = true) {
  PlanMap plan = pod_plan(user, pid, own);
  auto pod = create_pod(plan.view());
  if (!pod) {
    fprintf(stderr, "create_pod: %s %s: %s\n", pod.error().call, pod.error().object, strerror(pod.error().err));
    CHECK(false);
    exit(test::done());
  }
  return pod.take();
}

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

void descriptors_and_users(World& w, bool user) {
  Pod pod = make_pod(user, false);
  pod.ns.root_uid = pod.ns.root_gid = 0;  // as after a re-execution that passed descriptors only
  ContainerOptions o;
  o.user = user;
  {
    constexpr const char* kFds[] = {
        "sh", "-c", "ls /proc/self/fd; id; echo HOME=$HOME; touch /tmp/a /root/b 2>&1; cat /proc/self/status"};
    PlanBuilder b = container(w, o, kFds);
    b.process().flags |= kProcessLookupUser | kProcessSetHome;
    b.process().user = b.string("web");
    b.add(Section::kGroups, u32{3003});
    Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
    expect_ran(run, "user by name");
    CHECK(run.ready.uid == 1000 && run.ready.gid == 1001 && run.ready.group_count == 3);
    CHECK(has(run.output, "uid=1000(web) gid=1001(www) groups=1001(www),2002(extra),3003"));
    CHECK(!has(run.output, "2003"));
    CHECK(has(run.output, "HOME=/home/web"));
    CHECK(run.output.view().starts_with("0\n1\n2\n3\n"));  // 3 is the directory that ls reads
    CHECK(!has(run.output, "\n4\n"));
    CHECK(has(run.output, "CapEff:\t0000000000000000") || has(run.output, "CapEff:\t00000000a80425fb"));
  }
  struct Case {
    const char* text;
    bool fails;
    u32 uid;
    u32 gid;
    const char* message;
  };
  constexpr Case kCases[] = {
      {"", false, 0, 0, ""},
      {"1000", false, 1000, 1001, ""},
      {"4242", false, 4242, 0, ""},
      {"1:7", false, 1, 7, ""},
      {"web:extra", false, 1000, 2002, ""},
      {"nobody-here", true, 0, 0, "unable to find user \"nobody-here\": no matching entry in /etc/passwd"},
      {"web:nogroup", true, 0, 0, "unable to find group \"nogroup\": no matching entry in /etc/group"},
      {"4294967296", true, 0, 0, "must be below 4294967295"},
      {"4294967295", true, 0, 0, "must be below 4294967295"},
      {"-1", true, 0, 0, "unable to find user \"-1\""},
      {" 1", true, 0, 0, "unable to find user \" 1\""},
      {"1:", true, 0, 0, "a group is missing"},
      {"0x0", true, 0, 0, "unable to find user \"0x0\""},
  };
  for (const Case& c : kCases) {
    if (user && c.uid > 65535) continue;
    constexpr const char* kTrue[] = {"busybox", "true"};
    PlanBuilder b = container(w, o, kTrue);
    b.process().flags |= kProcessLookupUser;
    b.process().user = b.string(c.text);
    Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
    bool right = c.fails ? run.failed && has(run.error.message, c.message)
                         : !run.failed && run.ready.uid == c.uid && run.ready.gid == c.gid && run.code == 0;
    if (!right)
      fprintf(stderr, "user \"%s\": %s, %u:%u\n", c.text, run.error.message.c_str(), run.ready.uid, run.ready.gid);
    CHECK(right);
  }
}

void failures(World& w, bool user) {
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

void exec_into(World& w, bool user) {
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  constexpr const char* kSleep[] = {"sleep", "1000"};
  PlanMap plan = sealed(container(w, o, kSleep));
  Run main = start_container(w, &pod, plan.view());
  expect_ran(main, "exec: container");
  release(main, plan.view());
  auto exec = [&](string_view user_text, const char* command) {
    PlanBuilder b(PlanKind::kExec);
    b.process().cwd = b.string("/tmp");
    b.process().flags = kProcessCapabilities | kProcessLookupUser | kProcessNoNewPrivileges;
    b.process().user = b.string(user_text);
    for (u32 set : {kCapBounding, kCapEffective, kCapPermitted}) b.process().capabilities[set] = 0xa80425fb;
    for (const char* arg : {"sh", "-c", command}) b.add_text(Section::kArgs, arg);
    b.add_text(Section::kEnv, "PATH=/bin");
    PlanMap exec_plan = sealed(static_cast<PlanBuilder&&>(b));
    Run run = start(exec_plan.view(), [&](int out) {
      Fd cgroup(open(w.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      ExecRequest request;
      request.plan = &exec_plan.view();
      request.init = main.pidfd.get();
      request.cgroup = cgroup.get();
      request.stdio[1] = request.stdio[2] = out;
      return begin_exec(request);
    });
    if (run.failed) return run;
    release(run, exec_plan.view());
    end(run);
    return run;
  };
  Run a = exec("", "pwd; hostname; id -u; ls /proc/self/fd; cat /proc/1/comm /proc/self/cgroup /marker; exit 3");
  expect_ran(a, "exec");
  CHECK(a.code == 3);
  CHECK(has(a.output, "/tmp\nweb-0\n0\n0\n1\n2\n3\nsleep\n"));
  CHECK(has(a.output, "0::/\non-top\n"));
  Run u = exec("1", "id -u; echo out > /dev/stdout");
  CHECK(u.code == 0 && has(u.output, "1\nout\n"));
  Run k = exec("web", "kill -9 $$");
  CHECK(k.signal == SIGKILL);
  Run bad = exec("ghost", "true");
  CHECK(bad.failed && has(bad.error.message, "unable to find user \"ghost\""));
  sys::pidfd_send_signal(main.pidfd.get(), SIGKILL);
  end(main);
  CHECK(main.signal == SIGKILL);
  Run dead = exec("", "true");
  CHECK(dead.failed && dead.error.err == ESRCH);
}

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

void terminal(World& w, bool user) {
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  constexpr const char* kTty[] = {"sh", "-c",
                                  "tty; stty size; ls -l /dev/console /dev/pts/0; echo err >&2; stat -c %u /dev/pts/0"};
  PlanBuilder b = container(w, o, kTty);
  b.process().flags |= kProcessTerminal | kProcessConsoleSize;
  b.process().rows = 33;
  b.process().columns = 99;
  b.process().uid = 1000;
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, &pod, plan.view());
  expect_ran(run, "terminal");
  CHECK(run.terminal);
  release(run, plan.view());
  run.out = static_cast<Fd&&>(run.terminal);
  end(run);
  CHECK(has(run.output, "/dev/pts/0\r\n33 99\r\n") && has(run.output, "err\r\n"));
  CHECK(has(run.output, "136,   0") && has(run.output, "/dev/console"));
  CHECK(has(run.output, "\n1000\r\n"));
  if (run.code != 0) fprintf(stderr, "%s", run.output.c_str());
  CHECK(run.code == 0);
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

// What is particular to a user namespace: ids on disk and outside, namespaces owned by it.
void user_namespace(World& w) {
  Pod pod = make_pod(true, false);
  ContainerOptions o;
  o.user = true;
  constexpr const char* kTouch[] = {
      "sh", "-c",
      "cat /proc/self/uid_map; echo hi > /made; mkdir /dir; stat -c '%u %g' /made / /bin/sh "
      "/dev/shm /volume/f; echo v > /volume/g; busybox chown 5:6 /made; busybox mknod /x c 1 3 2>&1; "
      "echo >/marker; stat -c %t,%T /dev/zero; busybox ip link set lo down && echo lo-down; sleep 1000"};
  shell(
      concat("mkdir -p ", w.dir, concat("/idvol; chmod 755 ", w.dir, concat("/idvol; echo f > ", w.dir, "/idvol/f"))));
  PlanBuilder b = container(w, o, kTouch);
  for (u32 set : {kCapBounding, kCapEffective, kCapPermitted}) b.process().capabilities[set] |= 1u << 12;
  String upper(b.string(w.upper()).length == 0 ? string_view() : string_view());
  add_bind(b, concat(w.dir, "/idvol"), "/volume", 0, kMountRecursive | kMountIdmap);
  b.add(Section::kRlimits, RlimitEntry{100, 200, 7, 0});
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, &pod, plan.view());
  expect_ran(run, "user namespace");
  release(run, plan.view());
  char buffer[512];
  while (!has(run.output, "lo-down")) {
    ssize_t n = read(run.out.get(), buffer, sizeof buffer);
    if (n <= 0) break;
    run.output.append({buffer, static_cast<size_t>(n)});
  }
  CHECK(has(run.output, "100000      65536"));
  CHECK(has(run.output, "0 0\n0 0\n0 0\n0 0\n0 0\n"));
  CHECK(has(run.output, "Operation not permitted"));
  CHECK(has(run.output, "1,5\n") && has(run.output, "lo-down"));
  if (!has(run.output, "lo-down")) fprintf(stderr, "%s", run.output.c_str());
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(run.pid));
  String status = read_file(concat(path, "/status").c_str());
  CHECK(has(status, "Uid:\t100000\t100000\t100000\t100000"));
  CHECK(has(read_file(concat(path, "/limits").c_str()), "Max open files            100                  200"));
  struct stat st = {};
  CHECK(stat(concat(w.dir, "/idvol/g").c_str(), &st) == 0 && st.st_uid == 0);
  String made(plan.view().text(plan.view().root().upper));
  made.append("/upper/made");
  // On disk the ids are those of the image, whatever the mapping.
  CHECK(stat(made.c_str(), &st) == 0 && st.st_uid == 5 && st.st_gid == 6);
  if (st.st_uid != 5) fprintf(stderr, "%s is %u:%u on disk\n", made.c_str(), st.st_uid, st.st_gid);
  sys::pidfd_send_signal(run.pidfd.get(), SIGKILL);
  end(run);
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

u64 filter(u16 code, u8 jt, u8 jf, u32 k) {
  uapi::SockFilter f = {code, jt, jf, k};
  u64 out = 0;
  memcpy(&out, &f, sizeof out);
  return out;
}

// The filter is loaded with and without no_new_privs, for root and others; ambient capabilities survive the exec.
void filter_and_ambient(World& w, bool user) {
  Pod pod = make_pod(user, false);
  for (bool nnp : {false, true}) {
    for (u32 uid : {0u, 1000u}) {
      constexpr const char* kArgs[] = {
          "sh", "-c", "grep -E 'Cap|Seccomp:|NoNew' /proc/self/status; hostname forbidden 2>&1; echo end"};
      ContainerOptions o;
      o.user = user;
      PlanBuilder b = container(w, o, kArgs);
      b.process().uid = uid;
      if (!nnp) b.process().flags &= ~u32{kProcessNoNewPrivileges};
      b.process().capabilities[kCapInheritable] = b.process().capabilities[kCapAmbient] =
          1u << 10;                                                                     // CAP_NET_BIND_SERVICE
      b.add(Section::kSeccomp, filter(0x20, 0, 0, 0));                                  // load the number
      b.add(Section::kSeccomp, filter(0x15, 0, 1, static_cast<u32>(SYS_sethostname)));  // equal?
      b.add(Section::kSeccomp, filter(0x06, 0, 0, 0x00050000 | ENOTNAM));               // fail
      b.add(Section::kSeccomp, filter(0x06, 0, 0, 0x7fff0000));                         // allow
      Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
      expect_ran(run, "seccomp");
      CHECK(has(run.output, nnp ? "NoNewPrivs:\t1" : "NoNewPrivs:\t0"));
      CHECK(has(run.output, "Seccomp:\t2"));
      CHECK(has(run.output, "CapAmb:\t0000000000000400") && has(run.output, "CapInh:\t0000000000000400"));
      // execve(2) gives a non-root process its ambient set only; root gets all that is permitted.
      CHECK(has(run.output, uid == 0 ? "CapEff:\t00000000a80425fb" : "CapEff:\t0000000000000400"));
      CHECK(has(run.output, "XENIX named type file") || has(run.output, "Not a XENIX") ||
            has(run.output, "No error information"));
      if (!has(run.output, "end")) fprintf(stderr, "%s", run.output.c_str());
    }
  }
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
  if (geteuid() != 0) {
    fprintf(stderr, "skipped: needs root\n");
    return 77;
  }
  // A tree of our own that is shared, as systemd makes the host's: what a start would leak would show here.
  if (sys::unshare(uapi::kCloneNewns) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("", "/", nullptr, MS_REC | MS_SHARED, nullptr) != 0)
    perror("unshare"), abort();
  signal(SIGPIPE, SIG_IGN);
  World world;
  if (argc > 1 && string_view(argv[1]) == "--measure") {
    for (bool user : {false, true})
      for (bool overlay : {false, true}) measure(world, user, overlay);
    return 0;
  }
  for (bool user : {false, true}) {
    printf("user namespace: %s\n", user ? "own" : "the host's");
    fflush(stdout);
    for (bool overlay : {true, false}) look_around(world, user, overlay);
    descriptors_and_users(world, user);
    failures(world, user);
    exec_into(world, user);
    shared_pid_and_shm(world, user);
    terminal(world, user);
    propagation(world, user);
    without_pod(world, user);
    filter_and_ambient(world, user);
  }
  user_namespace(world);
  read_only_and_volumes(world);
  many_layers(world);
  racing_symlink(world);
  return test::done();
}
