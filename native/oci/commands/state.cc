#include "oci/state.h"

#include "oci/command.h"
#include "oci/files.h"
#include "oci/listing.h"

namespace caisson::oci {

namespace {

Outcome<int> run(const Call& call) {
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(0)));
  const Slot slot = OCI_TRY(store.find(call.options.operand(0)));
  const State state = OCI_TRY(load_state(slot));
  String text;
  JsonWriter json(text);
  append_state(json, state, status_of(slot, state), true, owner_of(slot.dir()));
  text.append('\n');
  OCI_TRY(print(text));
  return 0;
}

}  // namespace

constexpr Command kState = {
    "state", "output the state of a container", "<container-id>", 1, 1, FlagOrder::kAnywhere, {}, run};

}  // namespace caisson::oci
