// Mounts of a container that runs: added to its mount namespace, and taken out of it again.
#pragma once

#include "core/launch.h"

namespace caisson {

struct LiveMountsRequest {
  const PlanView* plan = nullptr;  // kind kContainer: its mounts are the ones that are meant, nothing else of it counts
  int init = -1;                   // pidfd of the container's first process
  int cgroup = -1;                 // what a mount of cgroup2 without a cgroup namespace shows
  bool remove = false;             // by destination, the last one first
};

// A process of its own takes the sources on the host, enters the container's namespaces and mounts there, as a birth
// does. Blocks. Gives what describe_failure() takes, or kind 0: all went well. Adding undoes itself; removing ends at
// the first that fails. Errors: those of begin_exec().
Result<GateReport> change_live_mounts(const LiveMountsRequest& request);

}  // namespace caisson
