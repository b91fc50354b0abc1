#include "monitor/frame.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/memfd.h"
#include "monitor/scratch.h"

namespace caisson::monitor {

namespace {

static_assert(kScratchSize > kFrameMax);  // so that a frame that is too large shows

Status take_payload_memfd(Frame& frame) {
  if (frame.fds.count == 0) return Error(EPROTO, "receive", "payload memfd missing");
  Fd memfd = static_cast<Fd&&>(frame.fds.items[--frame.fds.count]);
  size_t size = CAISSON_TRY(sealed_memfd_size(memfd.get(), kPayloadMax));
  frame.payload.clear();
  for (size_t at = 0; at < size;) {
    ssize_t n = pread(memfd.get(), scratch, kScratchSize, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? Error::last("pread") : Error(EPROTO, "receive", "payload memfd");
    frame.payload.append(string_view(scratch, static_cast<size_t>(n)));
    at += static_cast<size_t>(n);
  }
  return ok();
}

}  // namespace

Result<bool> receive_frame(int socket, Frame& out) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kFrameFdsMax)];
  iovec part{scratch, kFrameMax + 1};
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
  memcpy(&out.header, scratch, sizeof out.header);
  if (out.header.magic != kFrameMagic || out.header.version != kFrameVersion)
    return Error(EPROTO, "receive", "magic or version");
  out.payload.clear();
  out.payload.append(string_view(scratch + sizeof(FrameHeader), static_cast<size_t>(n) - sizeof(FrameHeader)));
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
  span<const u8> bytes(reinterpret_cast<const u8*>(frame.payload.c_str()), frame.payload.size());
  Fd memfd = CAISSON_TRY(sealed_memfd("caisson-payload", bytes, MemfdKind::kData));
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
