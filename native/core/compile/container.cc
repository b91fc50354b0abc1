// A container, from its OCI configuration and what the service adds.
#include "core/compile.h"
#include "core/compile/context.h"
#include "core/compile/mount_options.h"
#include "core/process_words.h"

namespace caisson {

namespace compile {

namespace {

// "1.x.y", with or without a suffix: every version 1 is understood (semver), no other.
Status check_version(const Property& version) {
  const string_view text = CAISSON_TRY(version.text(kNameMax));
  if (text.starts_with("1.") && text.size() > 2 && text[2] >= '0' && text[2] <= '9') return ok();
  return version.invalid(text, "is not a version of the runtime specification 1.x");
}

Status compile_ways(Context& context, const Property& input) {
  if (CAISSON_TRY(input["lateLookup"].flag_or(false))) context.plan.process().flags |= kProcessLateLookup;
  if (CAISSON_TRY(input["setHome"].flag_or(false))) context.plan.process().flags |= kProcessSetHome;
  if (CAISSON_TRY(input["noPivot"].flag_or(false))) context.plan.root().flags |= kRootNoPivot;
  return ok();
}

Status compile_facts(Context& context, const Property& input) {
  const Property list = input["controllers"];
  const u32 count = CAISSON_TRY(list.list(64));
  for (u32 i = 0; i < count; ++i) context.controllers.push(CAISSON_TRY(list.at(i).text(kNameMax)));
  const Property missing = input["missingController"];
  const string_view policy = CAISSON_TRY(missing.text_or("error", kNameMax));
  if (policy != "error" && policy != "warn") return missing.invalid(policy, "is not error or warn");
  context.warn_missing_controller = policy == "warn";
  context.create_mount_sources = CAISSON_TRY(input["createMountSources"].flag_or(false));
  context.check_propagation = CAISSON_TRY(input["checkPropagation"].flag_or(false));
  if (input["bundle"].present()) context.bundle = CAISSON_TRY(input["bundle"].absolute_path());
  return ok();
}

Status refuse_other_platforms(const Property& spec) {
  for (const string_view key : {"windows", "solaris", "vm", "zos", "freebsd"})
    CAISSON_TRY(spec[key].refuse("is of another platform"));
  return ok();
}

// sched(7): under SCHED_DEADLINE a process cannot have a child, unless the child is to be an ordinary one.
Status check_deadline(Context& context, const Property& spec, const Property& linux) {
  const SchedulerEntry& scheduler = context.plan.process().scheduler;
  if (scheduler.policy != words::kSchedDeadline || (scheduler.flags & words::kSchedResetOnFork) != 0) return ok();
  const Property policy = spec["process"]["scheduler"]["policy"];
  if (spec["hooks"]["startContainer"].value().size() != 0)
    return policy.error(ENOTSUP, "SCHED_DEADLINE needs SCHED_FLAG_RESET_ON_FORK where hooks.startContainer are run");
  if (linux["seccomp"]["listenerPath"].present())
    return policy.error(ENOTSUP, "SCHED_DEADLINE needs SCHED_FLAG_RESET_ON_FORK with linux.seccomp.listenerPath");
  return ok();
}

// What the caller reads for itself has its type, at least.
Status check_others(const Property& spec, const Property& linux) {
  CAISSON_TRY(linux["cgroupsPath"].text_or({}, kPathMax));
  const Property annotations = spec["annotations"];
  const u32 count = CAISSON_TRY(annotations.map(~u32{0}));
  for (u32 i = 0; i < count; ++i) CAISSON_TRY(annotations.at(i).text(~u32{0}));
  return ok();
}

Status compile(Context& context, const Property& input) {
  CAISSON_TRY(input.object());
  Property spec = CAISSON_TRY(input.object("spec"));
  if (!spec.present()) return spec.error(EINVAL, "is missing");
  // Its properties are named as its own reader knows them: "linux.resources", not "spec.linux.resources".
  spec = Property(spec.value());
  CAISSON_TRY(check_version(spec["ociVersion"]));
  const Property linux = CAISSON_TRY(spec.object("linux"));
  if (!linux.present()) return linux.error(EINVAL, "is missing");
  CAISSON_TRY(refuse_other_platforms(spec));
  CAISSON_TRY(check_others(spec, linux));

  CAISSON_TRY(compile_facts(context, input));
  CAISSON_TRY(compile_id(context, input));
  CAISSON_TRY(compile_ways(context, input));
  CAISSON_TRY(compile_namespaces(context, spec, linux));
  CAISSON_TRY(compile_root(context, input, spec, linux));
  CAISSON_TRY(compile_hooks(context, CAISSON_TRY(spec.object("hooks"))));
  CAISSON_TRY(compile_mounts(context, input, spec["mounts"]));
  CAISSON_TRY(compile_devices(context, input, linux));
  CAISSON_TRY(compile_sysctls(context, linux["sysctl"]));
  CAISSON_TRY(compile_net_devices(context, linux["netDevices"]));
  CAISSON_TRY(compile_resources(context, CAISSON_TRY(linux.object("resources"))));
  CAISSON_TRY(compile_rdt(context, CAISSON_TRY(linux.object("intelRdt"))));
  CAISSON_TRY(compile_process(context, spec["process"]));
  CAISSON_TRY(check_deadline(context, spec, linux));
  CAISSON_TRY(compile_memory_policy(context, linux["memoryPolicy"]));
  CAISSON_TRY(compile_personality(context, linux["personality"]));
  CAISSON_TRY(compile_identity(context, spec["process"], input["user"]));
  return compile_filter(context, linux["seccomp"]);
}

}  // namespace

}  // namespace compile

Result<Compiled> compile_container(string_view json) {
  const JsonDocument document = CAISSON_TRY(JsonDocument::parse(json));
  compile::Context context(PlanKind::kContainer);
  CAISSON_TRY(compile::compile(context, compile::Property(document.root())));
  Compiled compiled;
  compiled.plan = CAISSON_TRY(context.plan.finish());
  compiled.warnings = static_cast<Vec<String>&&>(context.warnings);
  return compiled;
}

span<const string_view> mount_options() { return compile::mount_option_words(); }

}  // namespace caisson
