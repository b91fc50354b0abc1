#include <signal.h>

#include "core/spawn.h"
#include "oci/destroy.h"
#include "oci/listing.h"
#include "oci/log.h"

namespace caisson::oci {

namespace {

constexpr int kLockMs = 10'000;

constexpr Flag kFlags[] = {
    {"force", 'f', FlagKind::kSwitch, "kill what still runs; a container that is not there is no error"}};

Done remove(Store& store, string_view id, bool force) {
  Slot slot = OCI_TRY(store.find(id));
  OCI_TRY(slot.lock(kLockMs));
  Outcome<bool> abandoned = is_abandoned(slot);
  if (!abandoned && force) {
    // A record that nobody can read tells of nothing to clear away, and must not stay for ever.
    log(Level::kWarning, abandoned.error().text);
    OCI_TRY(slot.remove());
    return done();
  }
  // A create that died: nothing but what it made is left.
  if (OCI_TRY(static_cast<Outcome<bool>&&>(abandoned))) {
    const bool had_record = slot.has("state.json");
    OCI_TRY(clear_leftovers(slot));
    OCI_TRY(slot.remove());
    return had_record ? done() : Done(no_such_container(id));
  }
  const State state = OCI_TRY(load_state(slot));
  const ContainerStatus status = status_of(slot, state);
  if (!force && status != ContainerStatus::kStopped && status != ContainerStatus::kCreated)
    return Fault::text_of("cannot delete container ", id, " that is not stopped: ", status_word(status));
  return destroy(slot, state);
}

Outcome<int> run(const Call& call) {
  const string_view id = call.options.operand(0);
  const bool force = call.options.on("force");
  Outcome<Store> store = open_store(call.globals, id);
  Done removed = store ? remove(*store, id, force) : Done(fault_of(store.error()));
  if (removed) return 0;
  // Gone is what was asked for; an id that cannot be one is an error still.
  if (force && removed.error().text.view() == no_such_container(id).text.view()) return 0;
  return fault_of(removed.error());
}

}  // namespace

constexpr Command kDelete = {
    "delete", "delete a container that has ended", "<container-id>", 1, 1, FlagOrder::kAnywhere, kFlags, run};

}  // namespace caisson::oci
