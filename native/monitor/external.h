// Containers made by another OCI runtime (runc, crun): the births that a Task drives like those of our own.
//
// A short-lived child of the monitor, the driver, puts the bundle together in a mount namespace of its own, executes
// the runtime's command line with a time limit, and speaks over the gate as a stage does: kChild with the process that
// the runtime has left (the monitor is a child subreaper, so it is the monitor's child now), kTerminal, kReady; when
// released it executes `start` and reports kExecuted. Whoever kills the driver kills the runtime with it.
#pragma once

#include "core/fd.h"
#include "core/json.h"
#include "core/launch.h"
#include "core/result.h"
#include "core/text.h"
#include "monitor/box.h"

namespace caisson::monitor {

// What a runtime is called with, for one container: JSON of the service (src/pod/handlers/), in a sealed memfd.
class ExternalRuntime {
 public:
  static constexpr size_t kTextMax = 4u << 20;
  static constexpr u32 kOptionsMax = 32;

  // Errors: EINVAL names the member.
  static Result<Box<ExternalRuntime>> load(Fd memfd);

  String name;         // of the handler
  String path;         // of the executable
  String root;         // --root
  String bundle;       // directory that the bundle covers, in the driver's mount namespace
  String cgroup_root;  // where the host has cgroup2
  String cgroup;       // name of the container's own
  String head;         // config.json up to the value of "user", its last member but for what closes it
  String tail;
  Vec<String> options;       // global ones, of the operator
  u32 timeout_ms = 0;        // for each call
  bool places_execs = true;  // knows `exec --cgroup`; runsc does not
  Fd memfd;                  // what it was read from, for a program that replaces this one
};

struct ExternalExec {
  string_view id;
  string_view leaf;  // cgroup below the container's; empty: none
  int cgroup = -1;   // that one, else the container's
  int process = -1;  // sealed memfd with process.json
  const int* stdio;  // three, as in ExecRequest
};

// Makes the caller a child subreaper. `request` as for begin_birth(), its cgroup without effect.
Result<Birth> begin_external_birth(BirthRequest request, const ExternalRuntime& runtime, string_view id);
Result<Birth> begin_external_exec(const ExternalRuntime& runtime, const ExternalExec& exec);
// `delete --force`: ends when nothing of the container is left in the runtime's records. The gate is silent.
Result<Birth> begin_external_delete(const ExternalRuntime& runtime, string_view id);

}  // namespace caisson::monitor
