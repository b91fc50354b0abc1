// The connections that the kernel tracks, as far as host ports need it.
#pragma once

#include "core/result.h"

namespace caisson {

// Forgets the flows of UDP to these ports, whoever they are translated to: a client that goes on sending from the same
// port would reach the pod that had the port before, or none, as long as it does. Errors: EPROTONOSUPPORT, EOPNOTSUPP
// (the kernel lacks CONFIG_NF_CT_NETLINK), EPERM.
Status forget_udp_flows(span<const u16> ports);

}  // namespace caisson
