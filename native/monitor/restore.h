// Containers made of a checkpoint by criu(8): births that a Task drives as those of other runtimes (external.h).
//
// The driver puts root, mounts and namespaces together, lays over them what the checkpoint has of files, and is ready:
// the container is created, and nothing of it runs. When released it executes `criu restore`, whose tree becomes the
// monitor's child (the monitor is a child subreaper), in the container's cgroup and on its pipes. What is restored is a
// container like any other from then on.
#pragma once

#include "core/fd.h"
#include "core/launch.h"
#include "core/result.h"
#include "core/text.h"
#include "monitor/box.h"

namespace caisson::monitor {

// What criu is called with: JSON of the service (src/pod/checkpoint/), in a sealed memfd.
class Restoration {
 public:
  static constexpr size_t kTextMax = 1u << 20;
  static constexpr u32 kArgumentsMax = 4096;

  // Errors: EINVAL names the member.
  static Result<Box<Restoration>> load(const Fd& memfd);

  String criu;         // path of the executable
  String point;        // directory that the parts cover, in the driver's mount namespace
  String cgroup_root;  // where the host has cgroup2
  String cgroup_path;  // of the container's own, below that
  String cgroup;       // its name
  String changes;      // directory with a layer that is applied to the root; empty: none
  String shm;          // directory whose content the pod's /dev/shm gets; empty: none
  Vec<String> arguments;
  u32 timeout_ms = 0;
};

// Makes the caller a child subreaper. `request` as for begin_birth(), its cgroup without effect.
Result<Birth> begin_restore(BirthRequest request, const Restoration& restoration);

}  // namespace caisson::monitor
