#include "monitor/frame.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace caisson::monitor {

namespace {

// Shared by every connection: one thread, and a frame is copied out before the next is read. A page is touched as used.
alignas(8) char buffer[kFrameMax + 1];

Status take_payload_memfd(Frame& frame) {
  if (frame.fds.count == 0) return Error(EPROTO, "receive", "payload memfd missing");
  Fd memfd = static_cast<Fd&&>(frame.fds.items[--frame.fds.count]);
  int seals = fcntl(memfd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_WRITE) == 0 || (seals & F_SEAL_SHRINK) == 0)
    return Error(EPERM, "receive", "payload memfd is not sealed");
  struct stat st{};
  if (fstat(memfd.get(), &st) != 0) return Error::last("fstat");
  if (st.st_size < 0 || static_cast<u64>(st.st_size) > kPayloadMax) return Error(E2BIG, "receive", "payload memfd");
  frame.payload.clear();
  char chunk[4096];
  for (off_t at = 0; at < st.st_size;) {
    ssize_t n = pread(memfd.get(), chunk, sizeof chunk, at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? Error::last("pread") : Error(EPROTO, "receive", "payload memfd");
    frame.payload.append(string_view(chunk, static_cast<size_t>(n)));
    at += n;
  }
  return ok();
}

}  // namespace

Result<bool> receive_frame(int socket, Frame& out) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFrameFdsMax)];
  iovec part{buffer, sizeof buffer};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return Error::last("recvmsg");

  out.fds = FdList();
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      Fd owned(fd);
      if (!out.fds.push(static_cast<Fd&&>(owned))) return Error(EPROTO, "receive", "too many descriptors");
    }
  }
  if (n == 0) return false;
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || static_cast<size_t>(n) > kFrameMax)
    return Error(EPROTO, "receive", "frame too large");
  if (static_cast<size_t>(n) < sizeof(FrameHeader)) return Error(EPROTO, "receive", "frame too short");
  memcpy(&out.header, buffer, sizeof out.header);
  if (out.header.magic != kFrameMagic || out.header.version != kFrameVersion)
    return Error(EPROTO, "receive", "magic or version");
  out.payload.clear();
  out.payload.append(string_view(buffer + sizeof(FrameHeader), static_cast<size_t>(n) - sizeof(FrameHeader)));
  if ((out.header.flags & kFlagPayloadInMemfd) != 0) CAISSON_TRY(take_payload_memfd(out));
  return true;
}

Status seal_memfd(int fd) {
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return Error::last("fcntl F_ADD_SEALS");
  return ok();
}

Status fit_payload(Frame& frame) {
  if (sizeof(FrameHeader) + frame.payload.size() <= kFrameMax) return ok();
  if (frame.payload.size() > kPayloadMax || frame.fds.count == kFrameFdsMax) return Error(E2BIG, "send", "payload");
  Fd memfd(memfd_create("caisson-payload", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return Error::last("memfd_create");
  string_view left = frame.payload;
  while (!left.empty()) {
    ssize_t n = write(memfd.get(), left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error::last("write", "payload memfd");
    left.remove_prefix(static_cast<size_t>(n));
  }
  CAISSON_TRY(seal_memfd(memfd.get()));
  frame.fds.push(static_cast<Fd&&>(memfd));
  frame.header.flags |= kFlagPayloadInMemfd;
  frame.payload = String();
  return ok();
}

Status send_frame(int socket, const Frame& frame) {
  iovec parts[2] = {{const_cast<FrameHeader*>(&frame.header), sizeof frame.header},
                    {const_cast<char*>(frame.payload.c_str()), frame.payload.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFrameFdsMax)] = {};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  if (frame.fds.count != 0) {
    message.msg_control = control;
    message.msg_controllen = static_cast<decltype(message.msg_controllen)>(CMSG_SPACE(sizeof(int) * frame.fds.count));
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = static_cast<decltype(c->cmsg_len)>(CMSG_LEN(sizeof(int) * frame.fds.count));
    for (u32 i = 0; i < frame.fds.count; ++i) {
      int fd = frame.fds.items[i].get();
      memcpy(CMSG_DATA(c) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  ssize_t n;
  do n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n < 0) return Error::last("sendmsg");
  return ok();
}

}  // namespace caisson::monitor
