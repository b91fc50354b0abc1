#include "core/step.h"

namespace caisson {

namespace {

struct Words {
  const char* name;
  const char* call;
};
constexpr Words kWords[] = {
    {"start", "start"},
    {"clone", "clone3"},
    {"prepare", "prctl"},
    {"open source", "open_tree"},
    {"create source", "mkdir"},
    {"source propagation", "statx"},
    {"relabel", "setxattr"},
    {"idmap source", "mount_setattr"},
    {"open device", "open_tree"},
    {"open root", "open_tree"},
    {"open layers", "open_tree"},
    {"open upper directory", "open_tree"},
    {"relabel root", "setxattr"},
    {"idmap layers", "mount_setattr"},
    {"open namespace", "open"},
    {"join namespace", "setns"},
    {"unshare", "unshare"},
    {"map user", "setresuid"},
    {"join pod", "setns"},
    {"link layers", "symlink"},
    {"layer", "mount"},
    {"image volume", "mount"},
    {"mount overlay", "mount"},
    {"attach root", "move_mount"},
    {"mount", "mount"},
    {"mount target", "openat2"},
    {"mount attributes", "mount_setattr"},
    {"tmpcopyup", "copy"},
    {"device", "mknod"},
    {"symlink", "symlink"},
    {"mask path", "move_mount"},
    {"readonly path", "mount_setattr"},
    {"volume", "mkdir"},
    {"readonly root", "mount_setattr"},
    {"root propagation", "mount_setattr"},
    {"pivot_root", "pivot_root"},
    {"hostname", "sethostname"},
    {"sysctl", "write"},
    {"shared memory", "open_tree"},
    {"loopback", "ioctl"},
    {"resolve user", "look up"},
    {"terminal", "open"},
    {"console", "move_mount"},
    {"stdio", "dup2"},
    {"second stage", "clone3"},
    {"time offsets", "write"},
    {"hook", "execve"},
    {"gate", "recvmsg"},
    {"session", "setsid"},
    {"rlimit", "setrlimit"},
    {"oom score", "write"},
    {"keyring", "keyctl"},
    {"capabilities", "capset"},
    {"identity", "setresuid"},
    {"cwd", "chdir"},
    {"no new privileges", "prctl"},
    {"personality", "personality"},
    {"scheduler", "sched_setattr"},
    {"I/O priority", "ioprio_set"},
    {"memory policy", "set_mempolicy"},
    {"CPU affinity", "sched_setaffinity"},
    {"label", "write"},
    {"close descriptors", "close_range"},
    {"seccomp", "seccomp"},
    {"seccomp listener", "sendmsg"},
    {"exec", "execve"},  // to who reads the error, the look-up is part of it
    {"exec", "execve"},
    {"runtime", "start"},
    {"image sub-path", "openat2"},
};
static_assert(sizeof kWords / sizeof *kWords == static_cast<u32>(Step::kCount));

}  // namespace

const char* step_name(Step step) { return step < Step::kCount ? kWords[static_cast<u32>(step)].name : "unknown step"; }

const char* step_call(Step step) { return step < Step::kCount ? kWords[static_cast<u32>(step)].call : "start"; }

}  // namespace caisson
