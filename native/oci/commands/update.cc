#include "core/cgroup_update.h"
#include "oci/files.h"
#include "oci/listing.h"
#include "oci/log.h"
#include "oci/state.h"
#include "oci/update_flags.h"

namespace caisson::oci {

namespace {

constexpr int kLockMs = 10'000;

Done update_limits(const State& state, string_view resources) {
  const Fd cgroup = OCI_TRY(open_placement(state.placement));
  if (!cgroup) return Fault::text_of("container without a cgroup of its own: it has no limits to update");
  const CgroupUpdate update = OCI_TRY(compile_update(resources, OCI_TRY(read_cgroup_state(cgroup.get()))));
  for (const String& warning : update.warnings()) log(Level::kWarning, warning);
  const Vec<CgroupLimit> limits = update.limits();
  OCI_TRY(update_placement(state.placement, cgroup.get(), limits));
  if (update.devices()) OCI_TRY(replace_device_program(cgroup.get(), update.program(), state.placement.path));
  return done();
}

Done update_rdt(const State& state, const Options& options) {
  Vec<string_view> schemata;
  for (const string_view flag : {"l3-cache-schema", "mem-bw-schema"})
    if (const string_view schema = options.text(flag); !schema.empty()) schemata.push(schema);
  if (schemata.empty()) return done();
  if (!state.rdt.present) return Fault::text_of("updating a non-existent Intel RDT configuration is not supported");
  const Fd root = OCI_TRY(open_resctrl());
  OCI_TRY(caisson::rdt_update(root.get(), state.rdt, {schemata.data(), schemata.size()}));
  return done();
}

Outcome<int> run(const Call& call) {
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(0)));
  Slot slot = OCI_TRY(store.find(call.options.operand(0)));
  String resources;
  if (const string_view file = call.options.text("resources"); !file.empty())
    resources = OCI_TRY(read_path(file, kConfigMax, true));
  else
    resources = OCI_TRY(resources_of(call.options));
  OCI_TRY(slot.lock(kLockMs));
  const State state = OCI_TRY(load_state(slot));
  if (status_of(slot, state) == ContainerStatus::kStopped) return Fault::text_of("container not running");
  if (resources.view() != "{}") OCI_TRY(update_limits(state, resources));
  OCI_TRY(update_rdt(state, call.options));
  return 0;
}

}  // namespace

constexpr Command kUpdate = {
    "update", "change the limits of a container", "<container-id>", 1, 1, FlagOrder::kAnywhere, kUpdateFlags, run};

}  // namespace caisson::oci
