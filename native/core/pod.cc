// The namespaces of a pod: made by one helper process, kept by descriptor, without a pause process unless the pod
// shares its PID namespace.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/birth_parts.h"
#include "core/user_namespace.h"

namespace caisson {

namespace {

// What the helper says, in GateReport::index of a kReady: each is answered by a release.
enum : u32 { kSeedBuilt = 1, kUserUnshared = 2, kComplete = 3 };

constexpr int kPrSetName = 15;  // PR_SET_NAME
constexpr char kInitName[] = "caisson-init";

void pause_for(Stage& s, u32 phase) {
  GateReport report;
  report.kind = GateReport::kReady;
  report.index = phase;
  s.report(report);
  wait_for_release(s);
}

// The file of the program that runs, for who has to execute: SELinux gives a process another label only then. `told`
// becomes descriptor 0.
[[noreturn]] void execute_as_init(Stage& s, int self, int told) {
  s.at(Step::kStdio);
  s.check(dup2(told, 0));
  set_labels(s);
  char name[] = "caisson-init";
  char option[] = "--init";
  char* argv[] = {name, option, nullptr};
  char* envp[] = {nullptr};
  syscall(SYS_execveat, self, "", argv, envp, uapi::kAtEmptyPath);
  s.fail(errno);
}

// PID 1 of a shared PID namespace: reaps what is orphaned there, and ends the rest by its own end. `told`: as of
// rest_as_init(), where it has a label to take on.
[[noreturn]] void be_init(Stage& s, int told) {
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  const int self = told >= 0 ? s.check(open("/proc/self/exe", O_PATH | O_CLOEXEC)) : -1;
  // Every container of the pod can look at /proc/1/root.
  s.at(Step::kAttachRoot);
  s.check(build_empty_root(s.mount_label()));
  default_signals(s);
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;  // children of one who ignores SIGCHLD leave no zombie (waitpid(2))
  sigaction(SIGCHLD, &ignore, nullptr);
  s.check(setsid());
  s.at(Step::kCapabilities);
  if (told >= 0) s.check(sys::prctl(uapi::kPrSetSecurebits, uapi::kSecbitNoRoot));  // else root has them again on exec
  uapi::CapData none[2] = {};
  s.check(sys::capset({uapi::kCapabilityVersion3, 0}, none));
  s.check(sys::prctl(uapi::kPrSetNoNewPrivs, 1));
  s.check(sys::prctl(kPrSetName, reinterpret_cast<u64>(kInitName)));
  GateReport child;
  child.kind = GateReport::kReady;
  child.index = kComplete;
  child.pid = getpid();  // 1: tells the init's word from the helper's
  s.report(child);
  if (told >= 0) execute_as_init(s, self, told);
  s.check(sys::close_range(0, ~0u));
  for (;;) pause();
}

// Waits until an init that executes has its label; one that could not has said so itself, unless it was killed.
void await_label(Stage& s, int heard) {
  s.at(Step::kLabel, kLabelSelinux);
  char byte;
  if (s.check(static_cast<int>(read(heard, &byte, 1))) != 1) s.fail(ECHILD);
  close(heard);
}

void make_init(Stage& s) {
  int told[2] = {-1, -1};
  const bool labelled = s.plan->process().selinux.length != 0;
  s.at(Step::kClone);
  if (labelled) s.check(pipe2(told, O_CLOEXEC));
  uapi::CloneArgs args = {};
  args.flags = uapi::kCloneParent | uapi::kCloneNewpid | uapi::kCloneNewns;
  const int init = s.check(sys::clone3(args));
  if (init == 0) be_init(s, told[1]);
  GateReport child;
  child.kind = GateReport::kChild;
  child.pid = init;
  s.report(child);
  if (!labelled) return;
  close(told[1]);
  await_label(s, told[0]);
}

[[noreturn]] void helper(Stage& s) {
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  umask(0);
  take_stdio(s);
  close_unlisted(s);
  if ((s.create & uapi::kCloneNewpid) != 0) open_proc(s);
  s.at(Step::kJoinSeed);
  s.check(build_seed(s.plan->head().shm_size, s.host_uid, s.host_gid, s.mount_label()));
  pause_for(s, kSeedBuilt);
  u64 others = s.create & (uapi::kCloneNewnet | uapi::kCloneNewipc | uapi::kCloneNewuts);
  if ((s.create & uapi::kCloneNewuser) != 0) {
    s.at(Step::kUnshare, static_cast<u32>(NamespaceType::kUser));
    s.check(sys::unshare(uapi::kCloneNewuser));
    pause_for(s, kUserUnshared);
    if (s.label) {
      // A new IPC namespace brings its file system of message queues, whose root belongs to its maker: only a root that
      // is mapped may be labelled from inside.
      syscall(SYS_setfsgid, 0);
      syscall(SYS_setfsuid, 0);
    }
  }
  // After the user namespace, so that they belong to it.
  join_namespace(s, NamespaceType::kNetwork);
  for (NamespaceType type : {NamespaceType::kNetwork, NamespaceType::kIpc, NamespaceType::kUts}) {
    s.at(Step::kUnshare, static_cast<u32>(type));
    if ((others & namespace_flag(type)) != 0) s.check(sys::unshare(namespace_flag(type)));
  }
  if ((others & uapi::kCloneNewnet) != 0) {
    s.at(Step::kLoopback);
    s.check(raise_loopback(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  }
  if ((others & uapi::kCloneNewuts) != 0) set_names(s);
  if ((s.create & uapi::kCloneNewuser) != 0) {
    write_sysctls(s, SysctlWriter::kForeignUid);
    become_root(s);
    write_sysctls(s, SysctlWriter::kOwnUid);
  } else {
    write_sysctls(s, SysctlWriter::kAny);
  }
  if ((s.create & uapi::kCloneNewpid) != 0) make_init(s);
  pause_for(s, kComplete);
  _exit(0);
}

// The parent's side: reads one report, and turns a failure into an Error.
Result<GateReport> next_report(const PlanView& plan, const Birth& birth, const char* what) {
  Fd passed;
  GateReport report = CAISSON_TRY(read_gate(birth.gate.get(), passed));
  if (report.kind == GateReport::kFailed) {
    BirthError error = describe_failure(plan, report);
    return Error(error.err, error.call, error.message);
  }
  if (report.kind == 0) return Error(ECHILD, "create_pod", what);
  return report;
}

Result<Fd> open_namespace_of(int pid, const char* file) {
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(pid)).append("/ns/").append(file);
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", path);
  return fd;
}

Status expect_phase(const PlanView& plan, const Birth& birth, u32 phase) {
  GateReport report = CAISSON_TRY(next_report(plan, birth, "the helper ended"));
  if (report.kind != GateReport::kReady || report.index != phase) return Error(EPROTO, "create_pod", "gate");
  return ok();
}

void end_child(const Fd& pidfd) {
  if (!pidfd) return;
  sys::pidfd_send_signal(pidfd.get(), SIGKILL);
  siginfo_t info = {};
  while (waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pidfd.get()), &info, WEXITED) < 0 &&
         errno == EINTR) {
  }
}

// Follows the helper through its phases. `pod.init` is set as soon as there is one, for the undoing.
Status follow(const PlanView& plan, const Birth& birth, u64 create, Pod& pod) {
  CAISSON_TRY(expect_phase(plan, birth, kSeedBuilt));
  pod.ns.seed = CAISSON_TRY(open_namespace_of(birth.pid, "mnt"));
  CAISSON_TRY(release_gate(birth.gate.get()));
  if ((create & uapi::kCloneNewuser) != 0) {
    CAISSON_TRY(expect_phase(plan, birth, kUserUnshared));
    CAISSON_TRY(write_id_maps(birth.pid, plan));
    pod.ns.user = CAISSON_TRY(open_namespace_of(birth.pid, "user"));
    CAISSON_TRY(release_gate(birth.gate.get()));
  }
  bool init_ready = (create & uapi::kCloneNewpid) == 0;
  bool helper_ready = false;
  while (!init_ready || !helper_ready) {
    GateReport report = CAISSON_TRY(next_report(plan, birth, "the helper ended"));
    if (report.kind == GateReport::kChild) {
      pod.init_pid = report.pid;
      pod.init = Fd(sys::pidfd_open(report.pid));  // a child of ours, not yet reaped: the number is its own
      if (!pod.init) return Error::last("pidfd_open", "pod init");
      pod.ns.pid = CAISSON_TRY(open_namespace_of(report.pid, "pid"));
    } else if (report.pid != 0) {
      init_ready = true;
    } else {
      helper_ready = true;
    }
  }
  if ((create & uapi::kCloneNewnet) != 0) pod.ns.net = CAISSON_TRY(open_namespace_of(birth.pid, "net"));
  if ((create & uapi::kCloneNewipc) != 0) pod.ns.ipc = CAISSON_TRY(open_namespace_of(birth.pid, "ipc"));
  if ((create & uapi::kCloneNewuts) != 0) pod.ns.uts = CAISSON_TRY(open_namespace_of(birth.pid, "uts"));
  return ok();
}

}  // namespace

void rest_as_init() {
  // Cleared by the change of label. Whoever was to send it may be gone: then nobody reads what is written either.
  sys::prctl(uapi::kPrSetPdeathsig, SIGKILL);
  sys::prctl(uapi::kPrSetDumpable, 0);
  sys::prctl(kPrSetName, reinterpret_cast<u64>(kInitName));
  const char byte = 0;
  if (write(0, &byte, 1) != 1) _exit(1);
  sys::close_range(0, ~0u);
  for (;;) pause();
}

Result<Fd> make_ready_network() {
  const Fd own(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!own) return Error::last("open", "/proc/self/ns/net");
  if (sys::unshare(uapi::kCloneNewnet) != 0) return Error::last("unshare", "network");
  const Fd inet(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const bool raised = raise_loopback(inet.get()) == 0;
  Error failed = raised ? Error(0, "", "") : Error::last("ioctl(SIOCSIFFLAGS)", "lo");
  Fd made(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (raised && !made) failed = Error::last("open", "/proc/self/ns/net");
  // What comes next would happen in the pod's network: no way to go on.
  if (sys::setns(own.get(), uapi::kCloneNewnet) != 0) abort();
  if (failed.err != 0) return failed;
  return made;
}

Result<Pod> create_pod(const PlanView& plan, Fd ready) {
  if (plan.kind() != PlanKind::kPod) return Error(EINVAL, "create_pod", "plan");
  Stage s;
  Prepared prepared;
  prepared.fill(plan, s);
  s.label = plan.head().mount_label.length != 0 && selinux_enabled();
  for (NamespaceType type :
       {NamespaceType::kUser, NamespaceType::kNetwork, NamespaceType::kIpc, NamespaceType::kUts, NamespaceType::kPid}) {
    NamespaceMode mode = plan.head().ns(type).mode;
    if (mode == NamespaceMode::kNew) s.create |= namespace_flag(type);
    if (mode != NamespaceMode::kNew && mode != NamespaceMode::kHost)
      return Error(EINVAL, "create_pod", namespace_name(type));
  }
  Pod pod;
  if (ready && (s.create & (uapi::kCloneNewnet | uapi::kCloneNewuser)) == uapi::kCloneNewnet) {
    s.create &= ~u64{uapi::kCloneNewnet};
    s.ns(NamespaceType::kNetwork) = ready.get();
    pod.ns.net = static_cast<Fd&&>(ready);
  }
  if ((s.create & uapi::kCloneNewuser) != 0) {
    s.host_uid = mapped_root(plan.uid_map(), 0);
    s.host_gid = mapped_root(plan.gid_map(), 0);
    pod.ns.root_uid = s.host_uid;
    pod.ns.root_gid = s.host_gid;
  }
  Birth birth = CAISSON_TRY(give_birth(s, uapi::kCloneNewns, -1, -1, helper));
  // The helper answers at once: the gate is read blocking.
  Status result =
      fcntl(birth.gate.get(), F_SETFL, 0) == 0 ? follow(plan, birth, s.create, pod) : Error::last("fcntl", "gate");
  end_child(birth.pidfd);
  if (!result) {
    end_child(pod.init);
    return result.error();
  }
  return pod;
}

}  // namespace caisson
