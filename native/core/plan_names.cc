// The words of a plan: the names of its namespaces and hooks.
#include "core/plan.h"
#include "core/uapi.h"

namespace caisson {

namespace {

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

const char* namespace_name(NamespaceType type) { return kNamespaces[static_cast<u32>(type)].name; }

u64 namespace_flag(NamespaceType type) { return kNamespaces[static_cast<u32>(type)].flag; }

}  // namespace caisson
