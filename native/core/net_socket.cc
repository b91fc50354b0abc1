#include "core/net_socket.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/sys.h"

namespace caisson {

Result<Fd> make_socket_in(int net_namespace, int domain, int type, int protocol) {
  Fd own(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!own) return Error::last("open", "/proc/self/ns/net");
  if (sys::setns(net_namespace, uapi::kCloneNewnet) != 0) return Error::last("setns", "network namespace");
  Fd made(socket(domain, type | SOCK_CLOEXEC, protocol));
  const Error failure = made ? Error(0, "", "") : Error::last("socket", "network namespace");
  // What the caller does next would happen in the container's network: no way to go on.
  if (sys::setns(own.get(), uapi::kCloneNewnet) != 0) abort();
  if (!made) return failure;
  return made;
}

}  // namespace caisson
