#include "oci/destroy.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include "core/deadline.h"
#include "core/hooks.h"
#include "core/memfd.h"
#include "core/spawn.h"
#include "oci/config.h"
#include "oci/log.h"

namespace caisson::oci {

namespace {

constexpr int kPatienceMs = 10'000;

// The first process; the others are killed with the cgroup.
Status end_process(const State& state) {
  Result<Fd> process = open_process(state);
  if (!process) return ok();
  const Status sent = send_signal(process->get(), SIGKILL);
  if (!sent && sent.error().err != ESRCH) return sent.error();
  if (!wait_for_end(process->get(), kPatienceMs)) return Error(ETIMEDOUT, "kill", "the container's first process");
  return ok();
}

Status remove_rdt(const State& state) {
  if (!state.rdt.present) return ok();
  const Fd root = CAISSON_TRY(open_resctrl());
  return rdt_remove(root.get(), state.rdt);
}

// What a hook is given: the state on its standard input, and a working directory.
struct HookWorld {
  Fd state;
  Fd directory;
};

Outcome<HookWorld> hook_world(const State& state, ContainerStatus status) {
  const String text = hook_state(state, status);
  HookWorld world;
  world.state =
      OCI_TRY(sealed_memfd("state", {reinterpret_cast<const u8*>(text.c_str()), text.size()}, MemfdKind::kData));
  // A bundle that has gone is no reason not to run what cleans up after it.
  world.directory = Fd(open(state.bundle.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return world;
}

}  // namespace

bool wait_for_end(int pidfd, int timeout_ms) {
  const Deadline deadline(timeout_ms);
  for (;;) {
    pollfd fd = {pidfd, POLLIN, 0};
    const int ready = poll(&fd, 1, deadline.left_ms());
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

Done run_outer_hooks(const PlanView& hooks, HookKind kind, const State& state, ContainerStatus status) {
  if (!hooks.has_hook(kind)) return done();
  const HookWorld world = OCI_TRY(hook_world(state, status));
  OCI_TRY(run_hooks(hooks, kind, world.state.get(), world.directory.get()));
  return done();
}

// One that fails keeps none of the others from running (runtime-spec, runtime.md, lifecycle).
void run_poststop(const PlanView& hooks, const State& state) {
  if (!hooks.has_hook(HookKind::kPoststop)) return;
  Outcome<HookWorld> world = hook_world(state, ContainerStatus::kStopped);
  if (!world) {
    log(Level::kWarning, world.error().text);
    return;
  }
  for (u32 i = 0; i < hooks.hooks().size(); ++i) {
    if (hooks.hooks()[i].kind != HookKind::kPoststop) continue;
    if (Status ran = run_hook(hooks, i, world->state.get(), world->directory.get()); !ran)
      log(Level::kWarning, Fault::of(ran.error()).text);
  }
}

Done destroy(const Slot& slot, const State& state) {
  Vec<Fault> faults;
  auto note = [&](Status status) {
    if (!status) faults.push(Fault::of(status.error()));
  };
  // Read while it is there.
  std::optional<Compilation> hooks;
  if (state.has_poststop) {
    if (Outcome<Compilation> compiled = compile_hooks_of(slot); compiled)
      hooks = compiled.take();
    else
      faults.push(static_cast<Fault&&>(compiled.error()));
  }
  note(end_process(state));
  note(remove_placement(state.placement, kPatienceMs));
  note(remove_rdt(state));
  // As long as something of it is there, so is its record: delete can be called again.
  if (faults.empty()) note(slot.remove());
  if (hooks) run_poststop(hooks->plan, state);
  if (faults.empty()) return done();
  for (size_t i = 1; i < faults.size(); ++i) log(Level::kWarning, faults[i].text);
  return static_cast<Fault&&>(faults[0]);
}

void destroy_ended(Slot& slot, const State& state) {
  if (Done locked = slot.lock(kPatienceMs); !locked) {
    if (load_state(slot)) log(Level::kWarning, locked.error().text);
    return;
  }
  if (Done gone = destroy(slot, state); !gone) log(Level::kWarning, gone.error().text);
}

Done clear_leftovers(const Slot& slot) {
  if (!slot.has("state.json")) return done();
  const State state = OCI_TRY(load_state(slot));
  OCI_TRY(end_process(state));
  OCI_TRY(remove_placement(state.placement, kPatienceMs));
  OCI_TRY(remove_rdt(state));
  return done();
}

}  // namespace caisson::oci
