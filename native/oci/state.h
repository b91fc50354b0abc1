// What is known of a container, and how it is doing.
#pragma once

#include "core/fd.h"
#include "core/json.h"
#include "core/placement.h"
#include "core/resctrl.h"
#include "oci/store.h"

namespace caisson::oci {

struct State {
  String version;  // ociVersion of its configuration
  String id;
  String bundle;       // absolute
  String rootfs;       // absolute, on the host
  String created;      // RFC 3339
  String annotations;  // a JSON object; "": none
  PlacementRecord placement;
  RdtRecord rdt;
  int pid = 0;         // of its first process; 0: not born yet
  u64 start_time = 0;  // of that process, in ticks since boot: pids are reused
  bool creating = true;
  bool shares_pids = false;       // it has no PID namespace of its own: its end is not that of its children
  bool start_needs_plan = false;  // hooks at the start, or a seccomp agent
  bool has_poststop = false;
};

enum class ContainerStatus { kCreating, kCreated, kRunning, kPaused, kStopped };
string_view status_word(ContainerStatus status);

String write_state(const State& state);
// Errors: EINVAL for a record that is none of ours.
Result<State> parse_state(string_view text);

Status save_state(const Slot& slot, const State& state);
// "container does not exist" for a directory without a record.
Outcome<State> load_state(const Slot& slot);

// Under its lock: nothing but a create that died left this directory.
Outcome<bool> is_abandoned(const Slot& slot);

// The process of the record, by pidfd. ESRCH: it has ended (a zombie too), or the number is another's by now.
Result<Fd> open_process(const State& state);
// Field 22 of /proc/<pid>/stat. ESRCH for a zombie.
Result<u64> process_start_time(int pid);

ContainerStatus status_of(const Slot& slot, const State& state);

// The state as `state` prints it and hooks receive it (runtime.md, "State"). With `extra`, what runc adds: rootfs,
// created, owner.
void append_state(JsonWriter& json, const State& state, ContainerStatus status, bool extra, string_view owner = {});
// The state that a hook reads from its standard input.
String hook_state(const State& state, ContainerStatus status);

PlacementRecord copy(const PlacementRecord& record);

}  // namespace caisson::oci
