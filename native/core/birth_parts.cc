#include "core/birth_parts.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "core/block_mount.h"
#include "core/signals.h"
#include "core/user_namespace.h"

namespace caisson {

void Prepared::fill(const PlanView& plan, Stage& s) {
  s.plan = &plan;
  argv.reserve(plan.args().size() + 1);
  for (Str each : plan.args()) argv.push(const_cast<char*>(plan.c_str(each)));
  argv.push(nullptr);
  envp.reserve(plan.env().size() + 2);
  for (Str each : plan.env()) envp.push(const_cast<char*>(plan.c_str(each)));
  envp.push(nullptr);
  envp.push(nullptr);
  for (size_t i = 0; i < plan.mounts().size(); ++i) {
    sources.push(-1);
    idmaps.push(-1);
  }
  for (size_t i = 0; i < plan.mounted_layers(); ++i) lowers.push(-1);
  // every namespace, mapping and layer, and the others that close_unlisted() knows
  const size_t kept = Stage::kNamespaces + plan.mounts().size() + plan.mounted_layers() + Stage::kOthers;
  for (size_t i = 0; i < kept; ++i) keep.push(0);
  for (size_t i = 0; i < plan.devices().size(); ++i) devices.push(-1);
  for (const HookEntry& hook : plan.hooks()) {
    for (span<const Str> texts : {plan.hook_args(hook), plan.hook_env(hook)}) {
      for (Str each : texts) hooks.push(const_cast<char*>(plan.c_str(each)));
      hooks.push(nullptr);
    }
  }
  s.hooks = hooks.data();
  s.argv = argv.data();
  s.envp = envp.data();
  s.env_count = plan.env().size();
  s.sources = sources.data();
  s.devices = devices.data();
  s.idmaps = idmaps.data();
  s.lowers = lowers.data();
  s.keep = keep.data();
}

namespace {

bool equal(span<const IdMapping> a, span<const IdMapping> b) {
  return a.size() == b.size() && memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace

Status Prepared::make_mappings(const PlanView& plan) {
  span<const MountEntry> mounts = plan.mounts();
  for (size_t i = 0; i < mounts.size(); ++i) {
    if ((mounts[i].flags & kMountOwnMappings) == 0) continue;
    span<const IdMapping> uids = plan.mount_uid_map(mounts[i]);
    span<const IdMapping> gids = plan.mount_gid_map(mounts[i]);
    for (size_t other = 0; other < i && idmaps[i] < 0; ++other) {
      if (idmaps[other] >= 0 && equal(uids, plan.mount_uid_map(mounts[other])) &&
          equal(gids, plan.mount_gid_map(mounts[other])))
        idmaps[i] = idmaps[other];
    }
    if (idmaps[i] >= 0) continue;
    mappings.push(CAISSON_TRY(make_user_namespace(uids, gids)));
    idmaps[i] = mappings[mappings.size() - 1].get();
  }
  return ok();
}

Status Prepared::mount_blocks(const PlanView& plan, Stage& s) {
  const RootEntry& root = plan.root();
  if (root.kind == RootKind::kDevice) {
    const BlockDevice device = {plan.c_str(root.path), root.major, root.minor};
    block =
        CAISSON_TRY(mount_device(device, plan.c_str(root.fstype), (root.flags & kRootReadonly) != 0, s.mount_label()));
    s.root = block.get();
  } else if ((root.flags & kRootUpperImage) != 0) {
    block = CAISSON_TRY(mount_image(plan.c_str(root.upper), "ext4"));
    s.upper = block.get();
  }
  for (const u32 index : plan.erofs_layers())
    CAISSON_TRY(mount_layer(plan.c_str(root.path), plan.c_str(plan.layers()[index])));
  for (const u32 index : plan.erofs_image_layers()) {
    const MountEntry* of = nullptr;
    for (const MountEntry& mount : plan.mounts())
      if (mount.kind == MountKind::kImage && index - mount.layer_first < mount.layer_count) of = &mount;
    if (of == nullptr) return Error(EINVAL, "mount", plan.text(plan.image_layer(index)));
    CAISSON_TRY(mount_layer(plan.c_str(of->source), plan.c_str(plan.image_layer(index))));
  }
  for (size_t i = 0; i < layers.size(); ++i) lowers[i] = layers[i].get();
  return ok();
}

Status Prepared::mount_layer(const char* directory, const char* name) {
  const Fd all(open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!all) return Error::last("open", directory);
  const Fd layer(openat(all.get(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!layer) return Error::last("openat", name);
  layers.push(CAISSON_TRY(mount_erofs(layer.get())));
  return ok();
}

bool selinux_enabled() {
  struct statfs fs = {};
  return statfs("/sys/fs/selinux", &fs) == 0 && static_cast<u64>(fs.f_type) == uapi::kSelinuxMagic;
}

void change_generation(Stage& s, u64 flags) {
  s.at(Step::kStageTwo);
  // Its parent finds the second stage by the group, should this one be killed before it has told of it (Task). A
  // leader has a group of that number already.
  if (setpgid(0, 0) != 0 && errno != EPERM) s.fail(errno);
  int ends[2];
  s.check(pipe2(ends, O_CLOEXEC));
  int pidfd = -1;
  uapi::CloneArgs args = {};
  args.flags = flags | uapi::kCloneParent | uapi::kClonePidfd;
  args.pidfd = reinterpret_cast<u64>(&pidfd);
  const int pid = s.check(sys::clone3(args));
  char told = 0;
  if (pid == 0) {
    let_go(ends[1]);
    // A report of the second stage that overtook the first's would be taken for one of the first.
    if (read(ends[0], &told, 1) != 1) s.fail(ESRCH);
    let_go(ends[0]);
    return;
  }
  GateReport child;
  child.kind = GateReport::kChild;
  child.pid = pid;
  s.report(child, pidfd);
  s.check(static_cast<int>(write(ends[1], &told, 1)));
  _exit(0);
}

void enter_pid_namespace(Stage& s, int fd) {
  s.at(Step::kJoinNamespace, static_cast<u32>(NamespaceType::kPid));
  s.check(sys::setns(fd, uapi::kCloneNewpid));
  change_generation(s, 0);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));  // a clone has none
}

Result<Birth> give_birth(Stage& s, u64 flags, int pid_ns, int cgroup, void (*stage)(Stage&)) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Error::last("socketpair", "gate");
  Birth birth;
  birth.gate = Fd(ends[0]);
  Fd child_end(ends[1]);
  if (fcntl(birth.gate.get(), F_SETFL, O_NONBLOCK) != 0) return Error::last("fcntl", "gate");
  s.gate = child_end.get();
  s.ignored = CAISSON_TRY(ignored_signals());
  // A gap would be filled by a descriptor of the stage's own, which then passed through execve.
  for (u32 i = 0; i < s.preserve; ++i)
    if (fcntl(3 + static_cast<int>(i), F_GETFD) < 0) return Error::last("fcntl", "a descriptor to be preserved");
  // Without privileges a process that is not dumpable may not write to its own files in /proc: the stage does it
  // itself.
  if (!s.rootless && sys::prctl(uapi::kPrSetDumpable, 0) != 0) return Error::last("prctl", "PR_SET_DUMPABLE");

  Fd own;
  if (pid_ns >= 0) {
    own = Fd(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
    if (!own) return Error::last("open", "/proc/self/ns/pid");
    // It may belong to a user namespace above the caller's: then there is no way back from another one.
    if (sys::setns(own.get(), uapi::kCloneNewpid) != 0) return Error::last("setns", "the caller's pid namespace");
    if (sys::setns(pid_ns, uapi::kCloneNewpid) != 0) return Error::last("setns", "pid namespace");
  }
  int pidfd = -1;
  uapi::CloneArgs args = {};
  args.flags = flags | uapi::kClonePidfd | uapi::kCloneClearSighand | (cgroup >= 0 ? uapi::kCloneIntoCgroup : 0);
  args.pidfd = reinterpret_cast<u64>(&pidfd);
  args.exit_signal = SIGCHLD;
  args.cgroup = cgroup >= 0 ? static_cast<u64>(cgroup) : 0;
  int pid = sys::clone3(args);
  int err = errno;
  if (pid == 0) {
    stage(s);
    _exit(1);
  }
  // Children of a caller that stayed there would be born in the container's PID namespace: no way to go on.
  if (own && sys::setns(own.get(), uapi::kCloneNewpid) != 0) abort();
  // ENOMEM: the init of the PID namespace has gone (pid_namespaces(7)).
  if (pid < 0) return Error(pid_ns >= 0 && err == ENOMEM ? ESRCH : err, "clone3", cgroup >= 0 ? "cgroup" : "");
  birth.pid = pid;
  birth.pidfd = Fd(pidfd);
  return birth;
}

}  // namespace caisson
