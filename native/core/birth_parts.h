// What the births of containers and of exec'd processes have in common.
#pragma once

#include "core/launch.h"
#include "core/stage/stage.h"
#include "core/text.h"

namespace caisson {

// Memory that a stage needs and must not allocate: its copy of it comes with the clone.
struct Prepared {
  Vec<char*> argv;
  Vec<char*> envp;
  Vec<int> sources;
  Vec<int> devices;
  Vec<int> idmaps;
  Vec<Fd> mappings;  // what idmaps names
  Vec<Fd> layers;    // what lowers names
  Vec<int> lowers;
  Vec<unsigned> keep;
  Vec<char*> hooks;
  Fd block;  // Stage::root or Stage::upper
  void fill(const PlanView& plan, Stage& s);
  // A user namespace for each of the mappings of single mounts that the plan has.
  Status make_mappings(const PlanView& plan);
  // What lies on block devices, or may, is mounted before the birth: the container's cgroup, which a stage is born in,
  // lets none be opened.
  Status mount_blocks(const PlanView& plan, Stage& s);

 private:
  Status mount_layer(const char* directory, const char* name);
};

// Is SELinux on? As libselinux asks it.
bool selinux_enabled();

// clone3 with CLONE_PIDFD and CLONE_CLEAR_SIGHAND; born in `cgroup` and in the PID namespace `pid_ns` unless they are
// -1. The caller stays in its own PID namespace, and is non-dumpable from now on: what it gives birth to may be seen by
// the processes of a shared PID namespace before it can protect itself.
Result<Birth> give_birth(Stage& s, u64 flags, int pid_ns, int cgroup, void (*stage)(Stage&));

// A second stage, a child of the same parent, goes on where the first calls this; the first tells of it
// (GateReport::kChild) and ends. `flags`: CLONE_NEW*.
void change_generation(Stage& s, u64 flags);

// For a stage whose caller could not come back from that PID namespace: its own one belongs to a user namespace above
// the caller's. It is that of children: the generation changes.
void enter_pid_namespace(Stage& s, int fd);

// joining.cc
String proc_file(int pid, string_view name);  // "/proc/<pid>/<name>"
// The pid behind a pidfd, as /proc/self/fdinfo tells it. ESRCH: it has been reaped.
Result<int> pid_of(int pidfd);
// Those of its namespaces that are not the caller's, as CLONE_NEW*.
Result<u64> differing_namespaces(int pid);

}  // namespace caisson
