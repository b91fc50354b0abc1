// Programs of the host that the command is helped by: ps(1), criu(8). Never through a shell.
#pragma once

#include "core/fd.h"
#include "core/spawn.h"
#include "core/text.h"
#include "oci/outcome.h"

namespace caisson::oci {

// By PATH; a name with a slash is a path. ENOENT, EACCES.
Result<Fd> find_program(string_view name);

// Starts it with the caller's environment. `fds` and `cgroup` as of SpawnRequest.
Result<Spawned> start_program(const Vec<string_view>& args, span<const int> fds, int cgroup = -1);

// Waits for the end. 128 and the signal where one ended it.
int wait_program(const Spawned& program);

// Standard output of a run that succeeded; its standard error is ours. Faults: it is not there, it failed, it says more
// than `max` bytes.
Outcome<String> program_output(const Vec<string_view>& args, size_t max);

}  // namespace caisson::oci
