// The words of a plan: names of steps and namespaces for error messages.
#include "core/plan.h"
#include "core/uapi.h"

namespace caisson {

namespace {

constexpr const char* kSteps[] = {
    "start",
    "clone",
    "prepare",
    "open source",
    "create source",
    "source propagation",
    "relabel",
    "idmap source",
    "open device",
    "open root",
    "open layers",
    "open upper directory",
    "relabel root",
    "idmap layers",
    "open namespace",
    "join namespace",
    "unshare",
    "map user",
    "join pod",
    "link layers",
    "layer",
    "image volume",
    "mount overlay",
    "attach root",
    "mount",
    "mount target",
    "mount attributes",
    "tmpcopyup",
    "device",
    "symlink",
    "mask path",
    "readonly path",
    "volume",
    "readonly root",
    "root propagation",
    "pivot_root",
    "hostname",
    "sysctl",
    "shared memory",
    "loopback",
    "resolve user",
    "terminal",
    "console",
    "stdio",
    "second stage",
    "time offsets",
    "hook",
    "gate",
    "session",
    "rlimit",
    "oom score",
    "keyring",
    "capabilities",
    "identity",
    "cwd",
    "no new privileges",
    "personality",
    "scheduler",
    "I/O priority",
    "memory policy",
    "CPU affinity",
    "label",
    "close descriptors",
    "seccomp",
    "seccomp listener",
    "exec",  // to who reads the error, the look-up is part of it
    "exec",
    "runtime",
};
static_assert(sizeof kSteps / sizeof *kSteps == static_cast<u32>(Step::kCount));

struct NamespaceWord {
  const char* name;
  u64 flag;
};
constexpr NamespaceWord kNamespaces[] = {
    {"user", uapi::kCloneNewuser},     {"mount", uapi::kCloneNewns},  {"pid", uapi::kCloneNewpid},
    {"network", uapi::kCloneNewnet},   {"ipc", uapi::kCloneNewipc},   {"uts", uapi::kCloneNewuts},
    {"cgroup", uapi::kCloneNewcgroup}, {"time", uapi::kCloneNewtime},
};
static_assert(sizeof kNamespaces / sizeof *kNamespaces == static_cast<u32>(NamespaceType::kCount));

constexpr const char* kHooks[] = {"prestart",       "createRuntime", "createContainer",
                                  "startContainer", "poststart",     "poststop"};
static_assert(sizeof kHooks / sizeof *kHooks == static_cast<u32>(HookKind::kCount));

}  // namespace

const char* hook_name(HookKind kind) { return kHooks[static_cast<u32>(kind)]; }

const char* step_name(Step step) { return step < Step::kCount ? kSteps[static_cast<u32>(step)] : "unknown step"; }

const char* namespace_name(NamespaceType type) { return kNamespaces[static_cast<u32>(type)].name; }

u64 namespace_flag(NamespaceType type) { return kNamespaces[static_cast<u32>(type)].flag; }

}  // namespace caisson
