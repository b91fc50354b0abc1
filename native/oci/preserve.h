// Descriptors of the caller that are handed on to the process: --preserve-fds, and those of socket activation
// (sd_listen_fds(3)).
#pragma once

#include "core/json.h"
#include "oci/outcome.h"

namespace caisson::oci {

inline constexpr i64 kPreservedMax = 1024;

// How many descriptors from 3 on are there by $LISTEN_FDS, meant for this process ($LISTEN_PID).
u32 inherited_listen_fds();

// Each of them is open and was inherited: what is close-on-exec is our own. Faults name the descriptor.
Done check_preserved(u32 listen_fds, i64 preserve);

// The configuration with LISTEN_FDS and LISTEN_PID=1 in its process's environment.
void append_with_listen_fds(String& out, const JsonValue& spec, u32 listen_fds);

}  // namespace caisson::oci
