// Who calls: real root, or a user without privileges over the host (also as root of a user namespace, as podman
// unshare and rootless containers have it).
#pragma once

#include "oci/command.h"

namespace caisson::oci {

// Root of a user namespace that is not the first.
bool in_user_namespace();

// geteuid(2) as it was at the start, which no command changes: told by the kernel without a call (getauxval(3)).
u32 effective_user();

// --rootless, or what can be seen. True: cgroups that may not be made are done without.
bool is_rootless(const Globals& globals);

// /run/caisson-oci; $XDG_RUNTIME_DIR/caisson-oci for whoever has no privileges over the host.
String default_root();

// From the working directory, with ".", ".." and doubled slashes taken out as text: links are not looked at.
Outcome<String> absolute_path(string_view path);

}  // namespace caisson::oci
