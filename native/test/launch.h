// Births on a real kernel, as root: a world on disk and in the cgroup tree, plans for it, and one process driven from
// clone to exit as a blocking caller does.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/launch.h"
#include "core/sys.h"
#include "core/uapi.h"
#include "test/check.h"

namespace caisson::test {

inline String concat(string_view a, string_view b, string_view c = {}) {
  String out(a);
  out.append(b).append(c);
  return out;
}

inline String read_file(const char* path) {
  String out;
  Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  for (ssize_t n; fd && (n = read(fd.get(), buffer, sizeof buffer)) > 0;) out.append({buffer, static_cast<size_t>(n)});
  return out;
}

inline void write_file(string_view path, string_view text, mode_t mode = 0644) {
  Fd fd(open(String(path).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    perror("write_file"), abort();
}

inline bool has(const String& text, string_view part) { return text.view().find(part) != string_view::npos; }

inline void shell(string_view command) {
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

inline void add_mount(PlanBuilder& b, string_view type, string_view destination, string_view data, u64 attrs = 0) {
  MountEntry m;
  m.fstype = b.string(type);
  m.destination = b.string(destination);
  m.data = b.string(data);
  m.attr_set = attrs;
  b.add(Section::kMounts, m);
}

inline void add_bind(PlanBuilder& b, string_view source, string_view destination, u32 propagation,
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
  bool tty_group = true;  // gid 5 is mapped
};

inline PlanBuilder container(World& w, const ContainerOptions& o, span<const char* const> args) {
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
  add_mount(b, "devpts", "/dev/pts",
            o.tty_group ? "newinstance,ptmxmode=0666,mode=0620,gid=5" : "newinstance,ptmxmode=0666,mode=0620",
            uapi::kMountAttrNosuid);
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
inline PlanMap sealed(PlanBuilder b) {
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

inline PlanMap pod_plan(bool user, bool pid, bool own = true) {
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
inline Run start(const PlanView& plan, Begin begin) {
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

inline Run start_container(World& w, const Pod* pod, const PlanView& plan) {
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

inline void release(Run& run, const PlanView& plan) {
  if (run.failed) return;
  CHECK(release_gate(run.gate.get()));
  run.exec_done(plan);
}

inline void end(Run& run) {
  run.drain();
  if (run.pidfd) run.reap(run.pidfd);
}

// Runs to the end; prints what failed, so that a test that breaks says why.
inline Run run_container(World& w, const Pod* pod, PlanBuilder b) {
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, pod, plan.view());
  if (!run.failed) {
    release(run, plan.view());
    end(run);
  }
  return run;
}

// As run_container, without privileges and without a cgroup.
inline Run run_rootless(PlanBuilder b) {
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start(plan.view(), [&](int out) {
    BirthRequest request;
    request.plan = &plan.view();
    request.rootless = true;
    request.stdio[1] = request.stdio[2] = out;
    return begin_birth(request);
  });
  if (!run.failed) {
    release(run, plan.view());
    end(run);
  }
  return run;
}

inline void expect_ran(const Run& run, const char* what) {
  if (run.failed) fprintf(stderr, "%s: %s (errno %d)\n", what, run.error.message.c_str(), run.error.err);
  CHECK(!run.failed);
}

inline void drop(Pod& pod) {
  if (!pod.init) return;
  sys::pidfd_send_signal(pod.init.get(), SIGKILL);
  siginfo_t info = {};
  waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pod.init.get()), &info, WEXITED);
}

inline Pod make_pod(bool user, bool pid, bool own = true) {
  PlanMap plan = pod_plan(user, pid, own);
  auto pod = create_pod(plan.view());
  if (!pod) {
    fprintf(stderr, "create_pod: %s %s: %s\n", pod.error().call, pod.error().object, strerror(pod.error().err));
    CHECK(false);
    exit(done());
  }
  return pod.take();
}

// Runs `body` with a world, in a mount tree of its own that is shared, as systemd makes the host's: what a start would
// leak would show there. Returns main's status; 77 without root.
template <typename Body>
int in_world(Body body) {
  if (geteuid() != 0) {
    fprintf(stderr, "skipped: needs root\n");
    return 77;
  }
  if (sys::unshare(uapi::kCloneNewns) != 0 || mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("", "/", nullptr, MS_REC | MS_SHARED, nullptr) != 0)
    perror("unshare"), abort();
  signal(SIGPIPE, SIG_IGN);
  World world;
  body(world);
  return done();
}

}  // namespace caisson::test
