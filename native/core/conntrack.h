// The connections that the kernel tracks, as far as host ports need it.
#pragma once

#include "core/result.h"

namespace caisson {

struct FlowPort {
  u8 protocol = 0;  // IPPROTO_UDP, IPPROTO_SCTP
  u16 port = 0;
};

// Forgets the flows to these ports, whoever they are translated to: a client that goes on sending from the same port,
// as those of UDP do, and peers of SCTP that begin anew, would reach the pod that had the port before, or none, as long
// as it does. Errors: EPROTONOSUPPORT, EOPNOTSUPP (the kernel lacks CONFIG_NF_CT_NETLINK), EPERM.
Status forget_flows(span<const FlowPort> ports);

}  // namespace caisson
