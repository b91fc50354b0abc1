#include "core/cgroup.h"
#include "oci/listing.h"
#include "oci/state.h"

namespace caisson::oci {

namespace {

constexpr int kLockMs = 10'000;
constexpr int kFreezeMs = 10'000;

Outcome<int> change(const Call& call, bool freeze) {
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(0)));
  Slot slot = OCI_TRY(store.find(call.options.operand(0)));
  OCI_TRY(slot.lock(kLockMs));
  const State state = OCI_TRY(load_state(slot));
  const ContainerStatus status = status_of(slot, state);
  const bool runs = status == ContainerStatus::kRunning || status == ContainerStatus::kCreated;
  if (freeze && !runs) return Fault::text_of("container not running");
  if (!freeze && status != ContainerStatus::kPaused) return Fault::text_of("container not paused");
  const Fd cgroup = OCI_TRY(open_placement(state.placement));
  if (!cgroup) return Fault::text_of("container without a cgroup of its own: it cannot be paused");
  const Status changed = cgroup_freeze(cgroup.get(), freeze, kFreezeMs);
  if (changed) return 0;
  // Half of it stopped is no state to be left in.
  if (freeze) {
    Status thawed = cgroup_freeze(cgroup.get(), false, kFreezeMs);
    if (!thawed) return Fault::text_of(Fault::of(changed.error()).text, "; ", Fault::of(thawed.error()).text);
  }
  return changed.error();
}

Outcome<int> pause(const Call& call) { return change(call, true); }
Outcome<int> resume(const Call& call) { return change(call, false); }

}  // namespace

constexpr Command kPause = {
    "pause", "suspend every process of a container", "<container-id>", 1, 1, FlagOrder::kAnywhere, {}, pause};

constexpr Command kResume = {"resume", "let a paused container go on", "<container-id>", 1, 1, FlagOrder::kAnywhere, {},
                             resume};

}  // namespace caisson::oci
