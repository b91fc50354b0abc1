// The birth of a container: clone3(2), one stage without a user namespace, two with one.
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/birth_parts.h"
#include "core/user_namespace.h"

namespace caisson {

namespace {

constexpr u64 kStageTwoNamespaces = uapi::kCloneNewpid | uapi::kCloneNewcgroup;

// Namespaces other than mount, PID and cgroup: those a process can simply enter or make for itself.
constexpr NamespaceType kSimple[] = {NamespaceType::kNetwork, NamespaceType::kIpc, NamespaceType::kUts};

void join_namespaces(Stage& s) {
  for (NamespaceType type : kSimple) join_namespace(s, type);
  join_namespace(s, NamespaceType::kTime);
}

void make_namespaces(Stage& s) {
  // A new IPC namespace brings its file system of message queues, whose root belongs to its maker.
  if (s.has_user_namespace() && (s.create & uapi::kCloneNewipc) != 0) {
    syscall(SYS_setfsgid, 0);
    syscall(SYS_setfsuid, 0);
  }
  u64 fresh = 0;
  for (NamespaceType type : kSimple) fresh |= s.create & namespace_flag(type);
  if (fresh != 0 && sys::unshare(fresh) != 0) {
    // Which of them it was: a limit of /proc/sys/user, or what the kernel lacks.
    for (NamespaceType type : kSimple) {
      s.at(Step::kUnshare, static_cast<u32>(type));
      if ((fresh & namespace_flag(type)) != 0) s.check(sys::unshare(namespace_flag(type)));
    }
  }
  make_clocks(s);
}

// Everything of the container that is made inside its own namespaces.
[[noreturn]] void assemble(Stage& s) {
  if ((s.create & uapi::kCloneNewnet) != 0) {
    s.at(Step::kLoopback);
    s.check(raise_loopback(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  }
  set_names(s);
  mount_all(s);
  make_devices(s);
  make_links(s);
  make_directories(s);
  if (s.hold) {
    s.at(Step::kGate);
    GateReport held;
    held.kind = GateReport::kHeld;
    s.report(held);
    wait_for_release(s);
    run_own_hooks(s, HookKind::kCreateContainer);
  }
  open_terminal(s);
  mask_paths(s);
  make_readonly(s);
  pivot(s);
  finish(s);
}

[[noreturn]] void stage_two(Stage& s) {
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  write_sysctls(s, SysctlWriter::kForeignUid);
  become_root(s);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));  // the change of credentials cleared it
  write_sysctls(s, SysctlWriter::kOwnUid);
  attach_root(s);
  assemble(s);
}

// Stage 1 of a container with a user namespace: what needs the host's mount namespace and the initial user namespace.
[[noreturn]] void start_stage_two(Stage& s) {
  own_stdio(s, s.host_uid, s.host_gid);
  assemble_root(s);
  if (s.in_bundle()) return_in_bundle(s);
  // Before the user namespace, which need not be the owner of what is joined beside it: in it they could not be
  // entered.
  join_namespaces(s);
  join_namespace(s, NamespaceType::kCgroup);
  join_namespace(s, NamespaceType::kPid);
  if (!s.rootless) join_namespace(s, NamespaceType::kUser);
  make_namespaces(s);
  // The monitor is to be the parent that reaps the container.
  change_generation(s, uapi::kCloneNewns | (s.create & kStageTwoNamespaces));
  stage_two(s);
}

[[noreturn]] void stage_one(Stage& s) {
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  umask(0);
  take_stdio(s);
  close_unlisted(s);
  prepare_limits(s);
  prepare_scheduling(s);
  open_proc(s);
  if (s.rootless) {
    // Nothing may be mounted but in a namespace of one's own: the sources are taken in there, so no volume propagates.
    join_namespace(s, NamespaceType::kUser);
    become_root(s);
    s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
    copy_host_tree(s);
    open_sources(s);
  } else {
    if (s.confined && !s.has_user_namespace() && s.ns(NamespaceType::kPid) >= 0)
      enter_pid_namespace(s, s.ns(NamespaceType::kPid));
    open_sources(s);
    if (s.drive != nullptr || s.in_bundle()) s.host_mounts = s.check(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
    if (s.in_place())
      copy_host_tree(s);
    else
      enter_seed(s);
  }
  if (s.drive != nullptr) {
    assemble_root(s);
    s.drive(s);
  }
  if (s.has_user_namespace()) start_stage_two(s);
  join_namespaces(s);
  make_namespaces(s);
  join_namespace(s, NamespaceType::kCgroup);
  if ((s.create & uapi::kCloneNewcgroup) != 0) {
    s.at(Step::kUnshare, static_cast<u32>(NamespaceType::kCgroup));
    s.check(sys::unshare(uapi::kCloneNewcgroup));
  }
  write_sysctls(s, SysctlWriter::kAny);
  assemble_root(s);
  if (s.in_bundle()) {
    return_in_bundle(s);
    attach_root(s);
  }
  assemble(s);
}

// A namespace file, checked to be of the type it is asked for: the spec wants an error for another one.
Result<Fd> open_namespace(const PlanView& plan, NamespaceType type) {
  Str path = plan.head().ns(type).path;
  Fd fd(open(plan.c_str(path), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd) return Error::last("open", plan.text(path));
  int kind = ioctl(fd.get(), static_cast<int>(uapi::kNsGetNstype));
  if (kind < 0 || static_cast<u32>(kind) != namespace_flag(type))
    return Error(EINVAL, "ioctl(NS_GET_NSTYPE)", plan.text(path));
  return fd;
}

// Parameters and names of a joined namespace are set in it: never in one's own, which is the host's.
Status refuse_own(const PlanView& plan, NamespaceType type, const Fd& fd) {
  const PlanHeader& head = plan.head();
  const char* file = nullptr;
  bool changed = false;
  auto any = [&](auto matches) {
    for (const SysctlEntry& each : plan.sysctls())
      if (matches(plan.text(each.key))) return true;
    return false;
  };
  if (type == NamespaceType::kNetwork) {
    file = "/proc/self/ns/net";
    changed = !plan.net_devices().empty() || any([](string_view key) { return key.starts_with("net/"); });
  } else if (type == NamespaceType::kUts) {
    file = "/proc/self/ns/uts";
    changed = head.hostname.length != 0 || head.domainname.length != 0 ||
              any([](string_view key) { return key == "kernel/domainname"; });
  } else if (type == NamespaceType::kIpc) {
    file = "/proc/self/ns/ipc";
    changed = any([](string_view key) { return key.starts_with("fs/mqueue/") || key.starts_with("kernel/"); });
  }
  if (!changed) return ok();
  struct stat theirs = {};
  struct stat ours = {};
  if (fstat(fd.get(), &theirs) != 0 || stat(file, &ours) != 0) return Error::last("stat", file);
  if (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino) return ok();
  String text("linux.namespaces: the ");
  text.append(namespace_name(type))
      .append(" namespace to join is the host's: its parameters and names stay as they are");
  return Error(EINVAL, "begin_birth", text);
}

int pod_namespace(const PodNamespaces& ns, NamespaceType type) {
  switch (type) {
    case NamespaceType::kUser:
      return ns.user.get();
    case NamespaceType::kPid:
      return ns.pid.get();
    case NamespaceType::kNetwork:
      return ns.net.get();
    case NamespaceType::kIpc:
      return ns.ipc.get();
    case NamespaceType::kUts:
      return ns.uts.get();
    default:
      return -1;
  }
}

}  // namespace

Result<Birth> begin_birth(const BirthRequest& request) {
  const PlanView& plan = *request.plan;
  if (plan.kind() != PlanKind::kContainer) return Error(EINVAL, "begin_birth", "plan");
  const bool own_mounts = plan.head().ns(NamespaceType::kMount).mode == NamespaceMode::kNew;
  if (!own_mounts && plan.head().ns(NamespaceType::kUser).mode != NamespaceMode::kHost)
    return Error(EINVAL, "begin_birth", "linux.namespaces: a user namespace needs a new mount namespace");
  if (request.rootless && plan.head().ns(NamespaceType::kUser).mode == NamespaceMode::kHost)
    return Error(EINVAL, "begin_birth", "without privileges a container needs a user namespace");
  for (const MountEntry& mount : plan.mounts()) {
    if (request.rootless && (mount.flags & kMountIdmap) != 0)
      return Error(EINVAL, "begin_birth", "mounts: who has no privileges over the host cannot idmap its mounts");
  }
  if (request.rootless && !plan.net_devices().empty())
    return Error(EINVAL, "begin_birth", "linux.netDevices: who has no privileges cannot move network devices");
  // Never left out in silence: they are the caller's to do, while the birth is held.
  if (!request.hold && plan.needs_hold())
    return Error(EINVAL, "begin_birth", "hooks and network devices need a birth that is held");

  const bool in_place = (plan.root().flags & kRootInPlace) != 0;
  if (in_place && plan.root().kind != RootKind::kBind && plan.root().bundle.length == 0)
    return Error(EINVAL, "begin_birth", "hooks look for the root in a bundle, and there is none");

  Stage s;
  Fd opened[Stage::kNamespaces];
  for (u32 i = 0; i < Stage::kNamespaces; ++i) {
    auto type = static_cast<NamespaceType>(i);
    if (type == NamespaceType::kMount && own_mounts) continue;
    switch (plan.head().namespaces[i].mode) {
      case NamespaceMode::kNew:
        if (type != NamespaceType::kUser) {
          s.create |= namespace_flag(type);
          break;
        }
        opened[i] = CAISSON_TRY(make_user_namespace(plan));
        s.host_uid = mapped_root(plan.uid_map(), 0);
        s.host_gid = mapped_root(plan.gid_map(), 0);
        break;
      case NamespaceMode::kPod:
        if (request.pod == nullptr) return Error(EINVAL, "begin_birth", "no pod to join");
        s.join[i] = pod_namespace(*request.pod, type);
        if (type != NamespaceType::kUser || s.join[i] < 0) break;
        s.host_uid = request.pod->root_uid;
        s.host_gid = request.pod->root_gid;
        if (s.host_uid == 0) {  // not passed on with the descriptors
          RootIds ids = CAISSON_TRY(root_ids_of(s.join[i]));
          s.host_uid = ids.uid;
          s.host_gid = ids.gid;
        }
        break;
      case NamespaceMode::kTarget:
        if (type != NamespaceType::kPid || request.target_pid_ns < 0)
          return Error(EINVAL, "begin_birth", "no target to join");
        s.join[i] = request.target_pid_ns;
        break;
      case NamespaceMode::kPath:
        opened[i] = CAISSON_TRY(open_namespace(plan, type));
        CAISSON_TRY(refuse_own(plan, type, opened[i]));
        if (type == NamespaceType::kUser) {
          RootIds ids = CAISSON_TRY(root_ids_of(opened[i].get()));
          s.host_uid = ids.uid;
          s.host_gid = ids.gid;
        }
        break;
      default:
        if (type != NamespaceType::kMount) break;
        // to return to, once the root is put together
        opened[i] = Fd(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
        if (!opened[i]) return Error::last("open", "/proc/self/ns/mnt");
        break;
    }
    if (opened[i]) s.join[i] = opened[i].get();
  }

  Prepared prepared;
  prepared.fill(plan, s);
  CAISSON_TRY(prepared.make_mappings(plan));
  s.label = plan.head().mount_label.length != 0 && selinux_enabled();
  CAISSON_TRY(prepared.mount_blocks(plan, s));
  s.listener = request.listener;
  s.preserve = request.preserve;
  s.hold = request.hold;
  s.rootless = request.rootless;
  s.confined = request.confined;
  s.drive = request.drive;
  s.driven = request.driven;
  s.seed = request.pod != nullptr ? request.pod->seed.get() : -1;
  s.cgroup = request.cgroup;
  for (int i = 0; i < 3; ++i) s.stdio[i] = request.stdio[i];

  // A PID namespace is that of the children: the parent enters it for one clone, unless it could not come back; then,
  // and with a user namespace, stage 1 does.
  const bool stays = s.has_user_namespace() || s.drive != nullptr;
  int pid_ns = stays || s.confined ? -1 : std::exchange(s.ns(NamespaceType::kPid), -1);
  u64 flags = stays ? 0 : s.create & uapi::kCloneNewpid;
  return give_birth(s, flags, pid_ns, request.cgroup, stage_one);
}

}  // namespace caisson
