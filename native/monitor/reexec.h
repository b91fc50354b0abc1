// reexec: the monitor becomes another program, perhaps of another build, and keeps its pid, children and descriptors.
//
// The new program first reads the state on trial, in a child of its own: one that cannot read it, or is no monitor at
// all, never gets the pod. Births, execs, drains and removals that are under way go along with the rest of the state.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/json.h"
#include "monitor/pod.h"
#include "monitor/server.h"

namespace caisson::monitor {

// Returns only an error: EBUSY while a client has not taken what was sent to it or while the pod ends, ENOEXEC where
// the trial fails, else those of the system calls. Nothing has changed then.
Error become(int executable, Ticket ticket, const Server& server, const Pod& pod);

// In the new program: takes the state over. The ticket is then answered with the build id.
Result<Ticket> take_over(int memfd, Server& server, Pod& pod);

// In the child of the trial: whether this program understands the state; says so by its build id on `answer`.
bool try_state(int memfd, int answer, string_view pod_id);

}  // namespace caisson::monitor
