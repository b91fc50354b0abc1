#include "core/notify.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "core/fd.h"

namespace caisson {

Status notify_manager(string_view address, string_view state, int timeout_ms) {
  struct sockaddr_un to {};
  to.sun_family = AF_UNIX;
  const bool abstract = !address.empty() && address[0] == '@';
  // an abstract name may fill the field, a path ends with a NUL
  const size_t most = sizeof to.sun_path - (abstract ? 0 : 1);
  if (address.size() < 2 || address.size() > most || (!abstract && address[0] != '/'))
    return Error(EINVAL, "sendto", address);
  memcpy(to.sun_path, address.data(), address.size());
  if (abstract) to.sun_path[0] = '\0';
  const auto length =
      static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + address.size() + (abstract ? 0 : 1));
  const Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return Error::last("socket", address);
  struct timeval timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
  if (setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0)
    return Error::last("setsockopt", "SO_SNDTIMEO");
  while (sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<struct sockaddr*>(&to), length) <
         0) {
    if (errno != EINTR) return Error::last("sendto", address);
  }
  return ok();
}

}  // namespace caisson
