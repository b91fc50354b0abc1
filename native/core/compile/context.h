// What the parts of the compiler share while one plan is made. Each part is one concern of the runtime specification in
// a file of its own; container.cc, exec.cc and pod.cc put them in order.
#pragma once

#include "core/compile/property.h"
#include "core/plan.h"

namespace caisson::compile {

struct Context {
  explicit Context(PlanKind kind) : plan(kind) {}

  PlanBuilder plan;
  Vec<String> warnings;
  string_view bundle;                 // host directory that relative host paths start from; "": they are refused
  bool create_mount_sources = false;  // a missing source of a bind mount becomes a directory
  bool check_propagation = false;     // a bind mount whose source cannot propagate as its options ask is refused
  bool warn_missing_controller = false;
  Vec<string_view> controllers;  // of the cgroup the container's own is made in
  // The user namespace's mappings where the spec tells them; a joined one's may be unknown.
  Vec<IdMapping> uid_map;
  Vec<IdMapping> gid_map;
  string_view domainname;
  bool host_dev = false;  // /dev is a bind mount: its nodes and links are the host's business

  // "property: text"; the list is bounded.
  void warn(const Property& property, string_view text);
  NamespaceMode mode(NamespaceType type) { return plan.ns(type).mode; }
};

// linux.namespaces, linux.uidMappings, linux.gidMappings, linux.timeOffsets, hostname, domainname.
Status compile_namespaces(Context& context, const Property& spec, const Property& linux);
Status compile_id_mappings(const Property& list, Vec<IdMapping>& out);
Status compile_hostname(Context& context, const Property& spec);

// root, linux.rootfsPropagation, linux.maskedPaths, linux.readonlyPaths, linux.mountLabel; `rootfs` and `volumes` of
// the input.
Status compile_root(Context& context, const Property& input, const Property& spec, const Property& linux);
// Of a container or a pod.
Status compile_mount_label(Context& context, const Property& label);

// mounts; `imageVolumes` of the input are the sources "caisson:image/<n>".
Status compile_mounts(Context& context, const Property& input, const Property& mounts);
// A list of the names of layers, the topmost first.
// `from`: the object that holds `lower`, and `erofs`, the indexes in it of layers that are not unpacked.
Status compile_layers(Context& context, const Property& from, Section section, Section erofs);

// hooks. Those that run before pivot_root(2) make the root one in place.
Status compile_hooks(Context& context, const Property& hooks);

// linux.devices with the default nodes and links.
Status compile_devices(Context& context, const Property& input, const Property& linux);

// linux.sysctl; the key of a namespace that is not the plan's own is refused.
Status compile_sysctls(Context& context, const Property& sysctl);

// linux.netDevices
Status compile_net_devices(Context& context, const Property& devices);

// linux.resources: the writes to the container's cgroup, and the device program.
Status compile_resources(Context& context, const Property& resources);
Status compile_device_rules(Context& context, const Property& resources);
Result<Vec<u64>> compile_device_list(Context& context, const Property& list);

// linux.intelRdt
Status compile_rdt(Context& context, const Property& rdt);

// `id` and `newKeyring` of the input
Status compile_id(Context& context, const Property& input);

// process but for its identity.
Status compile_process(Context& context, const Property& process);
// A label for a process to take on when it executes; an empty one asks for nothing.
Result<Str> compile_label(Context& context, const Property& label);
// process.scheduler, process.ioPriority, process.execCPUAffinity
Status compile_scheduling(Context& context, const Property& process);

// linux.memoryPolicy, linux.personality: an exec'd process has those of its container.
Status compile_memory_policy(Context& context, const Property& policy);
Status compile_personality(Context& context, const Property& personality);

// process.user, or the input's `user`, which is looked up in the assembled root; capabilities; rlimits.
Status compile_identity(Context& context, const Property& process, const Property& user);

// linux.seccomp
Status compile_filter(Context& context, const Property& seccomp);

// A path of the host: absolute, or relative to the bundle where there is one.
Result<String> host_path(const Context& context, const Property& property);

// A path of the container, without ".", ".." and doubled slashes, so that no stage meets them: ".." stops at the root.
// A relative one starts at "/" (config.md "Mounts"). Errors as of Property::absolute_path.
Result<String> container_path(const Property& property);

// Is `path` the directory `above` or inside it? Both as of container_path.
bool path_within(string_view path, string_view above);

}  // namespace caisson::compile
