#include "core/live_mounts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "core/birth_parts.h"

namespace caisson {

namespace {

// Unmounts what is mounted last at the destination. The directory it is in is the working directory, and its own name
// is not followed: a link of the container's leads nowhere else.
int unmount(Stage& s, u32 index) {
  string_view path = s.plan->text(s.plan->mounts()[index].destination);
  const size_t slash = path.rfind('/');
  char parent[kPlanPathMax + 2];
  memcpy(parent, path.data(), slash + 1);
  parent[slash + 1] = '\0';
  int dir = sys::openat2(s.root, parent, O_PATH | O_DIRECTORY, 0, uapi::kResolveInRoot | uapi::kResolveNoMagiclinks);
  if (dir < 0) return -1;
  if (fchdir(dir) != 0) return -1;
  close(dir);
  return sys::umount2(path.data() + slash + 1, uapi::kUmountNofollow | uapi::kMntDetach);
}

void join(Stage& s) {
  default_signals(s);
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  umask(0);
  close_unlisted(s);
}

void enter(Stage& s) {
  s.at(Step::kJoinNamespace, static_cast<u32>(NamespaceType::kMount));
  if (s.create != 0) s.check(sys::setns(s.seed, s.create));
  if ((s.create & uapi::kCloneNewuser) != 0) become_root(s);
  // Not before: who is seen in the container must have no other root than it (begin_exec()).
  enter_pid_namespace(s, s.ns(NamespaceType::kPid));
  s.at(Step::kOpenRoot);
  s.root = s.check(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

[[noreturn]] void stage_add(Stage& s) {
  join(s);
  open_mount_sources(s);
  enter(s);
  GateReport entered;
  entered.kind = GateReport::kReady;
  s.report(entered);
  mount_all(s);
  protect_mounts(s);
  _exit(0);
}

[[noreturn]] void stage_remove(Stage& s) {
  join(s);
  enter(s);
  for (u32 i = s.live_mounts; i-- != 0;) {
    s.at(Step::kMountTarget, i);
    s.check(unmount(s, i));
  }
  _exit(0);
}

// Until it ends; `entered`: it has begun to mount.
Result<GateReport> wait(Birth& birth, bool& entered) {
  for (;;) {
    Fd passed;
    Result<GateReport> report = read_gate(birth.gate.get(), passed);
    if (!report && report.error().err == EAGAIN) {
      pollfd fd = {birth.gate.get(), POLLIN, 0};
      if (poll(&fd, 1, -1) < 0 && errno != EINTR) return Error::last("poll");
      continue;
    }
    if (report && report->kind == GateReport::kReady) {
      entered = true;
      continue;
    }
    int status = 0;
    while (waitpid(birth.pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (report && report->kind == GateReport::kChild) {
      birth.pid = report->pid;
      continue;
    }
    if (report && report->kind == 0 && status != 0) return Error(ECANCELED, "mounts", "the helper was killed");
    return report;
  }
}

}  // namespace

Result<GateReport> change_live_mounts(const LiveMountsRequest& request) {
  const PlanView& plan = *request.plan;
  if (plan.kind() != PlanKind::kContainer) return Error(EINVAL, "mounts", "plan");
  // What is mounted would be mounted for all who are in that namespace, at the paths of its root.
  if (plan.head().ns(NamespaceType::kMount).mode != NamespaceMode::kNew)
    return Error(EINVAL, "change the mounts of", "a container without a mount namespace of its own");
  const int pid = CAISSON_TRY(pid_of(request.init));
  Stage s;
  s.create = CAISSON_TRY(differing_namespaces(pid)) & ~uapi::kCloneNewpid;  // that one is entered last
  Fd user;
  if ((s.create & uapi::kCloneNewuser) != 0) {
    const String path = proc_file(pid, "ns/user");
    user.reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!user) return Error::last("open", path);
    s.ns(NamespaceType::kUser) = user.get();
  }
  if (sys::pidfd_send_signal(request.init, 0) != 0) return Error::last("pidfd_send_signal", "container");
  Prepared prepared;
  prepared.fill(plan, s);
  CAISSON_TRY(prepared.make_mappings(plan));
  s.label = plan.head().mount_label.length != 0 && selinux_enabled();
  s.seed = request.init;
  s.ns(NamespaceType::kPid) = request.init;
  s.cgroup = request.cgroup;
  for (int i = 0; i < 3; ++i) s.stdio[i] = i;
  s.live_mounts = static_cast<u32>(plan.mounts().size());
  bool entered = false;
  Birth birth = CAISSON_TRY(give_birth(s, 0, -1, -1, request.remove ? stage_remove : stage_add));
  const GateReport report = CAISSON_TRY(wait(birth, entered));
  if (request.remove || report.kind == 0 || !entered) return report;
  // All or nothing: what was mounted before the one that failed goes again, and that one if it was there already.
  const bool attached = report.step == static_cast<u32>(Step::kMountAttributes);
  s.live_mounts = report.index + (attached ? 1 : 0);
  Birth undo = CAISSON_TRY(give_birth(s, 0, -1, -1, stage_remove));
  CAISSON_TRY(wait(undo, entered));
  return report;
}

}  // namespace caisson
