// PlanView::parse on arbitrary bytes behind a header that has the right identity; what it accepts is then read whole.
#include "core/build_id.h"
#include "core/plan.h"

using namespace caisson;

namespace {

volatile size_t sink;

void read_all(const PlanView& plan) {
  size_t n = 0;
  auto text = [&](Str s) { n += strlen(plan.c_str(s)) == s.length ? 1 : (abort(), 0); };
  for (Str s : plan.args()) text(s);
  for (Str s : plan.env()) text(s);
  for (Str s : plan.layers()) text(s);
  for (Str s : plan.masked()) text(s);
  for (Str s : plan.readonly_paths()) text(s);
  for (Str s : plan.volumes()) text(s);
  for (const MountEntry& e : plan.mounts()) text(e.fstype), text(e.source), text(e.destination), text(e.data);
  for (const DeviceEntry& e : plan.devices()) text(e.path), text(e.source);
  for (const LinkEntry& e : plan.links()) text(e.path), text(e.target);
  for (const SysctlEntry& e : plan.sysctls()) text(e.key), text(e.value);
  for (const CgroupWrite& e : plan.cgroup_writes()) text(e.file), text(e.value);
  for (const NamespaceEntry& e : plan.head().namespaces) text(e.path);
  for (u64 v : plan.seccomp()) n += v;
  for (u64 v : plan.device_program()) n += v;
  for (u32 v : plan.groups()) n += v;
  for (const IdMapping& e : plan.uid_map()) n += e.host;
  for (const MountEntry& m : plan.mounts()) {
    for (const IdMapping& e : plan.mount_uid_map(m)) n += e.host;
    for (const IdMapping& e : plan.mount_gid_map(m)) n += e.host;
  }
  for (const NetDeviceEntry& e : plan.net_devices()) text(e.host), text(e.container);
  for (const HookEntry& e : plan.hooks()) {
    text(e.path);
    for (Str s : plan.hook_args(e)) text(s);
    for (Str s : plan.hook_env(e)) text(s);
  }
  for (Str s : plan.rdt_schemata()) text(s);
  for (u64 v : plan.cpus_initial()) n += v;
  for (u64 v : plan.cpus_final()) n += v;
  const PlanHeader& h = plan.head();
  for (Str s : {h.id, h.hostname, h.domainname, h.mount_label, h.listener_path, h.listener_metadata, h.rdt.clos,
                plan.process().apparmor, plan.process().selinux})
    text(s);
  text(plan.process().cwd);
  text(plan.process().user);
  text(plan.root().path);
  text(plan.root().upper);
  sink = n;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < sizeof(PlanHeader) || size > kPlanMax) return 0;
  auto* copy = static_cast<u8*>(malloc(size));
  memcpy(copy, data, size);
  auto* head = reinterpret_cast<PlanHeader*>(copy);
  head->magic = kPlanMagic;
  head->size = static_cast<u32>(size);
  memcpy(head->build, build_id().data(), sizeof head->build);
  auto plan = PlanView::parse({copy, size});
  if (plan) read_all(*plan);
  free(copy);
  return 0;
}
