// The end of a container: what is left of it is killed and removed, and its poststop hooks run.
#pragma once

#include "core/plan.h"
#include "oci/state.h"

namespace caisson::oci {

// Under its lock. The first fault is reported, the rest is tried. Hooks that fail are warnings.
Done destroy(const Slot& slot, const State& state);

// After a foreground run: takes the lock and destroys the container, unless somebody else has done so meanwhile. What
// goes wrong is a warning: the status of the process is what counts.
void destroy_ended(Slot& slot, const State& state);

// What a create that died left behind, before another one takes its directory over.
Done clear_leftovers(const Slot& slot);

// Waits until the process has ended. False: it has not within the time.
bool wait_for_end(int pidfd, int timeout_ms);

// poststop hooks. `hooks` is a plan with them, of whatever kind.
void run_poststop(const PlanView& hooks, const State& state);

// Hooks of one kind in the runtime's namespaces, with the bundle as working directory.
Done run_outer_hooks(const PlanView& hooks, HookKind kind, const State& state, ContainerStatus status);

}  // namespace caisson::oci
