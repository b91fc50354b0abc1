#include <signal.h>
#include <unistd.h>

#include "core/packet_socket.h"
#include "oci/config.h"
#include "oci/delivery.h"
#include "oci/destroy.h"
#include "oci/listing.h"
#include "oci/log.h"

namespace caisson::oci {

namespace {

constexpr int kLockMs = 10'000;

Done check_status(ContainerStatus status) {
  switch (status) {
    case ContainerStatus::kCreated:
      return done();
    case ContainerStatus::kStopped:
      return Fault::text_of("cannot start a container that has stopped");
    case ContainerStatus::kRunning:
      return Fault::text_of("cannot start an already running container");
    default:
      return Fault::text_of("cannot start a container in the ", status_word(status), " state");
  }
}

Done release(const Slot& slot, const State& state, const PlanView* plan) {
  Delivery delivery(plan, state, ContainerStatus::kCreated, -1);
  delivery.join(OCI_TRY(connect_packet_socket(slot.dir(), "start")));
  // The name is what tells a created container from a running one.
  if (unlinkat(slot.dir(), "start", 0) != 0) return Error::last("unlink", "start");
  OCI_TRY(delivery.release(hook_state(state, ContainerStatus::kCreated)));
  Outcome<Delivery::Progress> progress = delivery.next();
  if (progress) return done();
  if (delivery.failure().kind == 0) return fault_of(progress.error());
  const Compilation compiled = OCI_TRY(compile_again(slot, state));
  return Fault{describe_failure(compiled.plan, delivery.failure()).message};
}

Outcome<int> run(const Call& call) {
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(0)));
  Slot slot = OCI_TRY(store.find(call.options.operand(0)));
  OCI_TRY(slot.lock(kLockMs));
  const State state = OCI_TRY(load_state(slot));
  OCI_TRY(check_status(status_of(slot, state)));
  std::optional<Compilation> compiled;
  if (state.start_needs_plan) compiled = OCI_TRY(compile_again(slot, state));
  OCI_TRY(release(slot, state, compiled ? &compiled->plan : nullptr));
  if (!compiled) return 0;
  // The hooks may call for other commands on this container.
  slot.unlock();
  Done ran = run_outer_hooks(compiled->plan, HookKind::kPoststart, state, ContainerStatus::kRunning);
  if (ran) return 0;
  if (Done locked = slot.lock(kLockMs); !locked) return fault_of(ran.error());
  if (Done gone = destroy(slot, state); !gone) log(Level::kWarning, gone.error().text);
  return fault_of(ran.error());
}

}  // namespace

constexpr Command kStart = {
    "start", "run the process of a created container", "<container-id>", 1, 1, FlagOrder::kAnywhere, {}, run};

}  // namespace caisson::oci
