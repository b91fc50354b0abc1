// linux.netDevices: interfaces of the host that move into the container's network namespace.
#pragma once

#include "core/plan.h"
#include "core/result.h"

namespace caisson {

// Moves the plan's interfaces from the caller's network namespace into `net_namespace`, gives them their names, their
// permanent addresses of global scope again, and sets them up. The caller is privileged and of one thread; the
// container is born and not started (GateReport::kHeld). On an error what was moved is moved back, with its name,
// addresses and state, and the error's object says which interface failed, and why. With the namespace interfaces of
// hardware return to the host's, and virtual ones end: there is nothing to undo when the container is deleted. Errors:
// ENODEV (no such interface), EEXIST (the name is taken inside), EINVAL (it cannot leave its namespace), EPERM, and
// those of netlink(7).
Status move_net_devices(const PlanView& plan, int net_namespace);

}  // namespace caisson
