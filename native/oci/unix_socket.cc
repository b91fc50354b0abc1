#include "oci/unix_socket.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/passing.h"
#include "core/path.h"
#include "core/text.h"

namespace caisson::oci {

namespace {

// The address of `name` in a directory. The name of a descriptor is short; that of a file may still be too long.
Status address_in(int dir, string_view name, sockaddr_un& address) {
  String path(string_view("/proc/self/fd/"));
  path.append_i64(dir).append('/').append(name);
  if (path.size() >= sizeof address.sun_path) return Error(ENAMETOOLONG, "connect", name);
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return ok();
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

}  // namespace

Result<Fd> connect_stream(string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  Fd dir;
  if (path.empty() || path.find('\0') != string_view::npos) return Error(EINVAL, "connect", path);
  if (path.size() < sizeof address.sun_path) {
    memcpy(address.sun_path, path.data(), path.size());
  } else {
    const size_t slash = path.rfind('/');
    if (slash == string_view::npos) return Error(ENAMETOOLONG, "connect", path);
    dir.reset(open(String(part(path, 0, slash + 1)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!dir) return Error::last("open", path);
    CAISSON_TRY(address_in(dir.get(), part(path, slash + 1), address));
  }
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return Error::last("socket", path);
  while (connect(fd.get(), generic(address), sizeof address) != 0)
    if (errno != EINTR) return Error::last("connect", path);
  return fd;
}

Status send_descriptor(int socket, string_view text, int fd) {
  const ssize_t sent = send_passing(socket, text.data(), text.size(), fd);
  if (sent < 0) return Error::last("sendmsg");
  // A stream may take less; the descriptor has gone with the first byte.
  for (string_view rest = part(text, static_cast<size_t>(sent)); !rest.empty();) {
    const ssize_t n = send(socket, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("send");
    rest.remove_prefix(static_cast<size_t>(n));
  }
  return ok();
}

Result<Fd> listen_packets(int dir, const char* name) {
  sockaddr_un address{};
  CAISSON_TRY(address_in(dir, name, address));
  Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return Error::last("socket", name);
  if (bind(fd.get(), generic(address), sizeof address) != 0) return Error::last("bind", name);
  if (listen(fd.get(), 4) != 0) return Error::last("listen", name);
  return fd;
}

}  // namespace caisson::oci
