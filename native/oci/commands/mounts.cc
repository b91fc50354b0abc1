#include "core/live_mounts.h"
#include "oci/config.h"
#include "oci/files.h"
#include "oci/listing.h"

namespace caisson::oci {

namespace {

constexpr int kLockMs = 10'000;

// What is removed needs no source and no type: of a mount only its destination counts.
void write_destinations(JsonWriter& json, const JsonValue& mounts) {
  json.begin_array();
  for (u32 i = 0; i < mounts.size(); ++i) {
    json.begin_object().member("type", "tmpfs").key("destination").value(mounts.at(i)["destination"]);
    json.end_object();
  }
  json.end_array();
}

// The container's configuration with these mounts in the place of its own: id mappings and labels are the container's.
Outcome<Compilation> compile(const Slot& slot, const State& state, string_view file, bool remove) {
  const String text = OCI_TRY(read_path(file, kConfigMax));
  Result<JsonDocument> mounts = JsonDocument::parse(text);
  if (!mounts) return Fault::text_of(file, ": ", mounts.error().object);
  if (!mounts->root().is_array()) return Fault::text_of(file, ": is not a list of mounts");
  const Config config = OCI_TRY(read_config(slot));
  String spec;
  JsonWriter json(spec);
  json.begin_object();
  for (u32 i = 0; i < config.root().size(); ++i)
    if (config.root().key_at(i) != "mounts") json.key(config.root().key_at(i)).value(config.root().at(i));
  json.key("mounts");
  if (remove)
    write_destinations(json, mounts->root());
  else
    json.value(mounts->root());
  json.end_object();
  CompileInput input;
  input.bundle = state.bundle;
  input.id = state.id;
  return compile_config(spec, input);
}

Outcome<int> run(const Call& call) {
  const string_view action = call.options.operand(0);
  if (action != "add" && action != "remove") return Fault::text_of("unknown command ", action, ": not add or remove");
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(1)));
  Slot slot = OCI_TRY(store.find(call.options.operand(1)));
  OCI_TRY(slot.lock(kLockMs));
  const State state = OCI_TRY(load_state(slot));
  Result<Fd> init = open_process(state);
  if (!init) return Fault::text_of("container not running");
  const Compilation compiled = OCI_TRY(compile(slot, state, call.options.operand(2), action == "remove"));
  const Fd cgroup = OCI_TRY(open_placement(state.placement));
  LiveMountsRequest request;
  request.plan = &compiled.plan;
  request.init = init->get();
  request.cgroup = cgroup.get();
  request.remove = action == "remove";
  const GateReport report = OCI_TRY(change_live_mounts(request));
  if (report.kind == 0) return 0;
  return Fault{describe_failure(compiled.plan, report).message};
}

}  // namespace

constexpr Command kMounts = {
    "mounts",
    "add mounts to a running container, or remove them",
    "add|remove <container-id> <file>",
    3,
    3,
    FlagOrder::kAnywhere,
    {},
    run,
    1,
    true,
    "The file holds a list as `mounts` of a configuration does; remove looks at destinations only.\n"};

}  // namespace caisson::oci
