// Sockets of another network namespace: a socket stays in the one it was made in (network_namespaces(7)).
#pragma once

#include "core/fd.h"
#include "core/result.h"

namespace caisson {

// socket(2) with SOCK_CLOEXEC in `net_namespace`, which the caller, of one thread, enters for the time of one call.
Result<Fd> make_socket_in(int net_namespace, int domain, int type, int protocol);

}  // namespace caisson
