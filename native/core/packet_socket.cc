#include "core/packet_socket.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/path.h"

namespace caisson {

Result<Fd> connect_packet_socket(int dir, const char* name) {
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  int length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dir, name);
  if (!is_file_name(name) || length >= static_cast<int>(sizeof address.sun_path)) return Error(EINVAL, "connect", name);
  Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::last("socket", name);
  while (connect(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0) {
    if (errno != EINTR) return Error::last("connect", name);
  }
  return fd;
}

Result<PacketPair> packet_socket_pair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return Error::last("socketpair");
  PacketPair pair{Fd(fds[0]), Fd(fds[1])};
  if (fcntl(pair.ours.get(), F_SETFL, O_NONBLOCK) != 0) return Error::last("fcntl");
  return pair;
}

Status send_packet(int socket, span<const u8> data, span<const int> fds) {
  if (fds.size() > kPacketFdsMax) return Error(E2BIG, "sendmsg", "descriptors");
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kPacketFdsMax)] = {};
  struct iovec part = {const_cast<u8*>(data.data()), data.size()};
  struct msghdr message {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = static_cast<decltype(message.msg_controllen)>(CMSG_SPACE(sizeof(int) * fds.size()));
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = static_cast<decltype(header->cmsg_len)>(CMSG_LEN(sizeof(int) * fds.size()));
    memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return ok();
    if (errno != EINTR) return Error::last("sendmsg");
  }
}

Result<Packet> receive_packet(int socket, span<u8> buffer) {
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kPacketFdsMax)] = {};
  struct iovec part = {buffer.data(), buffer.size()};
  struct msghdr message {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return Error::last("recvmsg");
  Packet packet;
  packet.size = static_cast<size_t>(n);
  // Taken before any check, so that an early return closes them.
  for (struct cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      Fd owned(fd);
      if (packet.fd_count < kPacketFdsMax) packet.fds[packet.fd_count++] = static_cast<Fd&&>(owned);
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return Error(EMSGSIZE, "recvmsg");
  return packet;
}

Result<PeerCredentials> peer_credentials(int socket) {
  struct ucred credentials {};
  socklen_t size = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return Error::last("getsockopt", "SO_PEERCRED");
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

}  // namespace caisson
