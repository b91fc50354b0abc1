// A pod: the namespaces its containers join, its name, its sysctls, the size of its /dev/shm, its SELinux labels.
#include "core/compile.h"
#include "core/compile/context.h"

namespace caisson {

namespace compile {

namespace {

constexpr u64 kShmMax = u64{1} << 50;

// "pod": a namespace of its own; "node": the host's; "container", for pid only: each container has one of its own.
Result<bool> pod_owns(const Property& property, bool container_allowed) {
  const string_view word = CAISSON_TRY(property.text(kNameMax));
  if (word == "pod") return true;
  if (word == "node" || (container_allowed && word == "container")) return false;
  return property.invalid(word, container_allowed ? "is not pod, container or node" : "is not pod or node");
}

Status compile_own_namespaces(Context& context, const Property& namespaces) {
  struct Member {
    string_view key;
    NamespaceType type;
  };
  static constexpr Member kMembers[] = {
      {"network", NamespaceType::kNetwork},
      {"ipc", NamespaceType::kIpc},
      {"uts", NamespaceType::kUts},
      {"pid", NamespaceType::kPid},
  };
  if (!namespaces.present()) return namespaces.error(EINVAL, "is missing");
  for (const Member& member : kMembers)
    if (CAISSON_TRY(pod_owns(namespaces[member.key], member.type == NamespaceType::kPid)))
      context.plan.ns(member.type).mode = NamespaceMode::kNew;

  const Property user = CAISSON_TRY(namespaces.object("user"));
  if (!user.present()) return ok();
  context.plan.ns(NamespaceType::kUser).mode = NamespaceMode::kNew;
  struct Map {
    string_view key;
    Vec<IdMapping>& map;
    Section section;
  };
  const Map maps[] = {{"uidMappings", context.uid_map, Section::kUidMap},
                      {"gidMappings", context.gid_map, Section::kGidMap}};
  for (const Map& each : maps) {
    CAISSON_TRY(compile_id_mappings(user[each.key], each.map));
    bool zero = false;
    for (const IdMapping& m : each.map) {
      zero = zero || m.container == 0;
      context.plan.add(each.section, m);
    }
    if (!zero) return user[each.key].error(EINVAL, "does not map id 0, by which containers are put together");
  }
  return ok();
}

Status compile(Context& context, const Property& input) {
  CAISSON_TRY(input.object());
  const Property id = input["id"];
  const string_view text = CAISSON_TRY(id.text(64));
  for (const char c : text)
    if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) return id.invalid(text, "is not the id of a pod");
  if (text.size() != 64) return id.invalid(text, "is not the id of a pod");
  context.plan.head().id = context.plan.string(text);
  CAISSON_TRY(compile_own_namespaces(context, CAISSON_TRY(input.object("namespaces"))));
  CAISSON_TRY(compile_hostname(context, input));
  CAISSON_TRY(compile_sysctls(context, input["sysctl"]));
  if (const Property shm = input["shmSize"]; shm.present())
    context.plan.head().shm_size = CAISSON_TRY(shm.natural(kShmMax));
  CAISSON_TRY(compile_mount_label(context, input["mountLabel"]));
  context.plan.process().selinux = CAISSON_TRY(compile_label(context, input["selinuxLabel"]));
  return ok();
}

}  // namespace

}  // namespace compile

Result<Compiled> compile_pod(string_view json) {
  const JsonDocument document = CAISSON_TRY(JsonDocument::parse(json));
  compile::Context context(PlanKind::kPod);
  CAISSON_TRY(compile::compile(context, compile::Property(document.root())));
  Compiled compiled;
  compiled.plan = CAISSON_TRY(context.plan.finish());
  compiled.warnings = static_cast<Vec<String>&&>(context.warnings);
  return compiled;
}

}  // namespace caisson
