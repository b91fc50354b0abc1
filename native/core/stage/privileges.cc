// The last steps of a process before it is the container's: limits, session, credentials, filter (order: oci.md 5.4).
#include <sys/ioctl.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr u64 kCapSysAdmin = u64{1} << 21;

void set_rlimits(Stage& s) {
  span<const RlimitEntry> limits = s.plan->rlimits();
  for (u32 i = 0; i < limits.size(); ++i) {
    s.at(Step::kRlimit, i);
    uapi::Rlimit64 limit = {limits[i].soft, limits[i].hard};
    s.check(sys::prlimit64(0, limits[i].resource, &limit, nullptr));
  }
}

struct Capabilities {
  u64 effective = 0;
  u64 permitted = 0;
  u64 inheritable = 0;
};

Capabilities read_capabilities(Stage& s) {
  uapi::CapData data[2] = {};
  s.check(sys::capget({uapi::kCapabilityVersion3, 0}, data));
  return {data[0].effective | u64{data[1].effective} << 32, data[0].permitted | u64{data[1].permitted} << 32,
          data[0].inheritable | u64{data[1].inheritable} << 32};
}

void write_capabilities(Stage& s, const Capabilities& c) {
  uapi::CapData data[2] = {
      {static_cast<u32>(c.effective), static_cast<u32>(c.permitted), static_cast<u32>(c.inheritable)},
      {static_cast<u32>(c.effective >> 32), static_cast<u32>(c.permitted >> 32),
       static_cast<u32>(c.inheritable >> 32)}};
  s.check(sys::capset({uapi::kCapabilityVersion3, 0}, data));
}

void drop_bounding(Stage& s) {
  u64 keep = s.plan->process().capabilities[kCapBounding];
  for (u32 cap = 0; cap <= uapi::kCapMax; ++cap) {
    if ((keep >> cap & 1) != 0) continue;
    if (sys::prctl(uapi::kPrCapbsetDrop, cap) != 0) {
      if (errno == EINVAL) break;  // beyond the last one of this kernel
      s.fail(errno);
    }
  }
}

// Before the change of identity, since a working directory may be one that only root can enter, as under crun and runc.
// Returns whether it is there: root may be refused where the user is not (NFS with root_squash, FUSE).
bool change_directory(Stage& s, bool final) {
  s.at(Step::kCwd);
  // Every way here has led to "/".
  if (s.plan->text(s.plan->process().cwd) != "/" && chdir(s.plan->c_str(s.plan->process().cwd)) != 0) {
    if (!final && errno == EACCES) return false;
    s.fail(errno);
  }
  // CVE-2024-21626: a working directory of /proc/self/fd/N lay outside; the kernel then says "(unreachable)".
  char path[kPlanPathMax + 1];
  s.check(sys::getcwd(path, sizeof path));
  if (path[0] != '/') s.fail(EXDEV);
  return true;
}

void take_identity(Stage& s) {
  s.at(Step::kIdentity);
  if (s.identity.uid != 0) s.check(sys::prctl(uapi::kPrSetKeepcaps, 1));
  if (sys::setgroups(s.identity.group_count, s.identity.groups) != 0) {
    if (!s.rootless || errno != EPERM || s.identity.group_count != 0) s.fail(errno);
  }
  s.check(sys::setresgid(s.identity.gid));
  s.check(sys::setresuid(s.identity.uid));
}

void set_capabilities(Stage& s) {
  s.at(Step::kCapabilities);
  const ProcessEntry& process = s.plan->process();
  if ((process.flags & kProcessCapabilities) == 0) {
    if (s.identity.uid != 0) write_capabilities(s, {});  // PR_SET_KEEPCAPS had kept them
    return;
  }
  // What this process has not got cannot be granted: the spec wants that to be no error.
  u64 have = read_capabilities(s).permitted;
  Capabilities c;
  c.permitted = process.capabilities[kCapPermitted] & have;
  c.effective = process.capabilities[kCapEffective] & c.permitted;
  // A default inheritable set made file capabilities effective for non-root (CVE-2022-24769): only what is listed.
  c.inheritable = process.capabilities[kCapInheritable] & have;
  write_capabilities(s, c);
  // The kernel keeps the ambient set within the inheritable one (capabilities(7)).
  if (c.inheritable == 0) return;
  s.check(sys::prctl(uapi::kPrCapAmbient, uapi::kPrCapAmbientClearAll));
  u64 ambient = process.capabilities[kCapAmbient] & c.permitted & c.inheritable;
  for (u32 cap = 0; cap <= uapi::kCapMax; ++cap) {
    if ((ambient >> cap & 1) != 0) s.check(sys::prctl(uapi::kPrCapAmbient, uapi::kPrCapAmbientRaise, cap));
  }
}

// Root with CAP_DAC_OVERRIDE over the host's files reopens its /proc/self/fd/1 whoever owns that.
bool opens_anything(const Stage& s) {
  constexpr u64 kCapDacOverride = u64{1} << 1;
  const ProcessEntry& process = s.plan->process();
  if (s.identity.uid != 0 || s.has_user_namespace() || s.rootless || s.confined) return false;
  return (process.flags & kProcessCapabilities) == 0 || (process.capabilities[kCapEffective] & kCapDacOverride) != 0;
}

}  // namespace

void prepare_limits(Stage& s) {
  const ProcessEntry& process = s.plan->process();
  if ((process.flags & kProcessOomScoreAdj) != 0) {
    s.at(Step::kOomScore);
    char text[8];
    size_t n = 0;
    i32 value = process.oom_score_adj;
    if (value < 0) text[n++] = '-';
    u32 rest = static_cast<u32>(value < 0 ? -value : value);
    for (u32 unit = 1000; unit != 0; unit /= 10) {
      if (rest >= unit || unit == 1) text[n++] = static_cast<char>('0' + rest / unit % 10);
    }
    int fd = s.check(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
    // Without privileges nobody lowers it: the container then keeps its caller's, as under runc and crun.
    if (write(fd, text, n) < 0 && !((s.rootless || s.confined) && errno == EACCES)) s.fail(errno);
    let_go(fd);
  }
  // To raise a hard limit takes CAP_SYS_RESOURCE in the initial user namespace; the final values come before exec,
  // since low ones would bind the stages themselves.
  span<const RlimitEntry> limits = s.plan->rlimits();
  for (u32 i = 0; i < limits.size(); ++i) {
    s.at(Step::kRlimit, i);
    uapi::Rlimit64 now = {};
    s.check(sys::prlimit64(0, limits[i].resource, nullptr, &now));
    if (limits[i].hard <= now.hard) continue;
    now.hard = limits[i].hard;
    s.check(sys::prlimit64(0, limits[i].resource, &now, nullptr));
  }
}

void finish(Stage& s) {
  const ProcessEntry& process = s.plan->process();
  resolve_identity(s);
  if (!opens_anything(s)) own_stdio(s, s.identity.uid, s.identity.gid);
  set_scheduling(s);
  set_labels(s);
  // From here on no directory of the host or of the start is open: not the working directory nor the executable can be
  // reached through /proc/self/fd (CVE-2024-21626).
  keep_listed(s);
  const bool there = change_directory(s, false);
  const bool late = (process.flags & kProcessLateLookup) != 0;
  if (!late) look_up_executable(s);

  s.at(Step::kGate);
  GateReport ready;
  ready.kind = GateReport::kReady;
  ready.uid = s.identity.uid;
  ready.gid = s.identity.gid;
  ready.group_count = s.identity.group_count;
  memcpy(ready.groups, s.identity.groups, sizeof ready.groups);
  // Whoever made a container that another one starts is gone by then; until it lets go, the end of the gate tells.
  if (s.listener >= 0) s.check(sys::prctl(uapi::kPrSetPdeathsig, 0));
  s.report(ready);
  wait_for_start(s);

  // Before the filter, which may forbid the report that a failed execve needs.
  if (late) look_up_executable(s);
  s.at(Step::kSession);
  s.check(setsid());
  if ((process.flags & kProcessTerminal) != 0) s.check(ioctl(0, static_cast<int>(uapi::kTiocsctty), 0));
  set_rlimits(s);
  if ((process.flags & kProcessNewKeyring) != 0) {
    s.at(Step::kKeyring);
    char name[5 + 128] = "_ses.";
    string_view id = part(s.plan->text(s.plan->head().id), 0, 127);
    memcpy(name + 5, id.data(), id.size());
    // ENOSYS: a kernel without keyrings has none to share.
    if (sys::join_session_keyring(id.empty() ? nullptr : name) < 0 && errno != ENOSYS) s.fail(errno);
  }
  s.at(Step::kCapabilities);
  if ((process.flags & kProcessCapabilities) != 0) drop_bounding(s);
  take_identity(s);
  if (!there) change_directory(s, true);
  run_own_hooks(s, HookKind::kStartContainer);
  umask((process.flags & kProcessUmask) != 0 ? process.umask : 022);
  default_signals(s);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, 0));
  if ((process.flags & kProcessNoNewPrivileges) != 0) {
    set_capabilities(s);
    s.at(Step::kNoNewPrivileges);
    s.check(sys::prctl(uapi::kPrSetNoNewPrivs, 1));
    load_filter(s);
  } else {
    // Without no_new_privs the filter takes CAP_SYS_ADMIN, which is given up only after (seccomp(2)).
    if (!s.plan->seccomp().empty()) {
      s.at(Step::kSeccomp);
      Capabilities c = read_capabilities(s);
      c.effective |= kCapSysAdmin;
      write_capabilities(s, c);
    }
    load_filter(s);
    set_capabilities(s);
  }
  hand_over(s);
  execute(s);
}

}  // namespace caisson
