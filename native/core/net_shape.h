// Limits of bandwidth: tc-tbf(8) at the host's ends, where nothing in a pod reaches them.
#pragma once

#include "core/net_link.h"

namespace caisson {

// What goes to the pod waits at its end on the host. What comes from it goes by way of an interface of type ifb, where
// it waits before it reaches the bridge. Errors: EOPNOTSUPP, ENOENT (the kernel lacks sch_tbf, ifb, cls_u32 or
// act_mirred).
Status shape_link(Netlink& host, const PodLink& link);

}  // namespace caisson
