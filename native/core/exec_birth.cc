// The birth of a process in a running container: setns(2) by pidfd, one clone.
#include <fcntl.h>
#include <signal.h>

#include "core/birth_parts.h"
#include "core/user_namespace.h"

namespace caisson {

namespace {

[[noreturn]] void stage_exec(Stage& s) {
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  umask(0);
  take_stdio(s);
  close_unlisted(s);
  prepare_limits(s);
  prepare_scheduling(s);
  open_proc(s);
  bool user = (s.create & uapi::kCloneNewuser) != 0;
  if (user) own_stdio(s, s.host_uid, s.host_gid);
  s.at(Step::kJoinNamespace, static_cast<u32>(NamespaceType::kMount));
  if (s.create != 0) s.check(sys::setns(s.seed, s.create));
  if (s.joined_root >= 0) enter_root(s, s.joined_root);
  if (user) become_root(s);
  if (s.ns(NamespaceType::kPid) >= 0) enter_pid_namespace(s, s.ns(NamespaceType::kPid));
  if (user) s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));  // the change of credentials cleared it
  s.at(Step::kOpenRoot);
  s.root = s.check(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  open_terminal(s);
  finish(s);
}

// The CPUs that the caller, and so what it gives birth to, is bound to until the cgroup is entered; its own again at
// the end of the scope. By clone3(2) the cgroup is entered in the birth itself: no later can they be set.
class InitialAffinity {
 public:
  InitialAffinity() = default;
  InitialAffinity(const InitialAffinity&) = delete;
  InitialAffinity& operator=(const InitialAffinity&) = delete;
  ~InitialAffinity() {
    // What was its own a moment ago cannot be refused, unless all those CPUs have left the host meanwhile.
    if (size_ > 0) sys::sched_setaffinity(own_, static_cast<size_t>(size_));
  }
  Status take(span<const u64> cpus) {
    if (cpus.empty()) return ok();
    const int size = sys::sched_getaffinity(own_, sizeof own_);
    if (size < 0) return Error::last("sched_getaffinity", "process.execCPUAffinity.initial");
    if (sys::sched_setaffinity(cpus.data(), cpus.size_bytes()) < 0)
      return Error::last("sched_setaffinity", "process.execCPUAffinity.initial");
    size_ = size;
    return ok();
  }

 private:
  u64 own_[128] = {};  // NR_CPUS of Debian's kernels: 8192
  int size_ = 0;       // bytes that sched_getaffinity(2) gave
};

// The cgroup that `pid` is in, opened through the cgroup2 mount that `beside`, a directory of the same hierarchy, is
// in.
Result<Fd> cgroup_of(int pid, int beside) {
  String own(string_view("/proc/self/fd/"));
  own.append_u64(static_cast<u64>(beside));
  char directory[kPlanPathMax + 1];
  ssize_t n = readlink(own.c_str(), directory, sizeof directory);
  if (n <= 0) return Error::last("readlink", own);
  string_view host(directory, static_cast<size_t>(n));
  String path = proc_file(pid, "cgroup");
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", path);
  char text[3 * kPlanPathMax];
  n = read(fd.get(), text, sizeof text);
  if (n <= 0) return Error::last("read", path);
  string_view all(text, static_cast<size_t>(n));
  size_t at = all.starts_with("0::") ? 3 : all.find("\n0::");
  if (at == all.npos) return Error(ENOENT, "cgroup v2", path);
  if (at != 3) at += 4;
  string_view theirs = part(all, at, all.find('\n', at) - at);
  // /mnt/a/b and /a/b/c: theirs begins with the part of ours that lies below the mount point.
  for (size_t cut = 0; cut != host.npos; cut = host.find('/', cut + 1)) {
    string_view below = part(host, cut);
    if (!theirs.starts_with(below) || (theirs.size() > below.size() && theirs[below.size()] != '/')) continue;
    String full(part(host, 0, cut));
    full.append(theirs);
    Fd found(open(full.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!found) return Error::last("open", full);
    return found;
  }
  return Error(ENOENT, "cgroup v2", theirs);
}

}  // namespace

Result<Birth> begin_exec(const ExecRequest& request) {
  const PlanView& plan = *request.plan;
  if (plan.kind() != PlanKind::kExec) return Error(EINVAL, "begin_exec", "plan");
  int pid = CAISSON_TRY(pid_of(request.init));
  Stage s;
  s.create = CAISSON_TRY(differing_namespaces(pid));
  // It is that of children. The stage enters it last of all: it begins with the host's root, and a container with
  // CAP_SYS_PTRACE has whatever a process has that it sees. In a user namespace that capability is none over the stage,
  // and the caller enters it for one clone, unless it could not come back.
  int pid_ns = -1;
  const bool harmless = (s.create & uapi::kCloneNewuser) != 0 && !request.rootless && !request.confined;
  if ((s.create & uapi::kCloneNewpid) != 0) (harmless ? pid_ns : s.ns(NamespaceType::kPid)) = request.init;
  s.create &= ~uapi::kCloneNewpid;
  if ((s.create & uapi::kCloneNewuser) != 0) {
    String path = proc_file(pid, "ns/user");
    Fd user(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!user) return Error::last("open", path);
    RootIds ids = CAISSON_TRY(root_ids_of(user.get()));
    s.host_uid = ids.uid;
    s.host_gid = ids.gid;
  }
  Fd root;
  if (request.joined_mounts || (s.create & uapi::kCloneNewns) == 0) {
    String path = proc_file(pid, "root");
    root = Fd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return Error::last("open", path);
    s.joined_root = root.get();
  }
  // The pid was read from the pidfd: if that process lives still, what was read under the pid was its own.
  if (sys::pidfd_send_signal(request.init, 0) != 0) return Error::last("pidfd_send_signal", "container");
  Prepared prepared;
  prepared.fill(plan, s);
  s.preserve = request.preserve;
  s.seed = request.init;
  for (int i = 0; i < 3; ++i) s.stdio[i] = request.stdio[i];
  s.rootless = request.rootless;
  s.confined = request.confined;
  InitialAffinity affinity;
  CAISSON_TRY(affinity.take(plan.cpus_initial()));
  Result<Birth> birth = give_birth(s, 0, pid_ns, request.cgroup, stage_exec);
  if (birth || request.cgroup < 0 || birth.error().err != EBUSY) return birth;
  // The container has enabled controllers below its cgroup (systemd inside), which then takes no processes.
  Fd cgroup = CAISSON_TRY(cgroup_of(pid, request.cgroup));
  return give_birth(s, 0, pid_ns, cgroup.get(), stage_exec);
}

}  // namespace caisson
