// One frame of the control protocol on a SOCK_SEQPACKET socket: header, JSON payload, descriptors.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"
#include "monitor/protocol.h"

namespace caisson::monitor {

// Bound of a payload that travels in a memfd.
inline constexpr size_t kPayloadMax = size_t{1} << 20;

struct FdList {
  Fd items[kFrameFdsMax];
  u32 count = 0;

  FdList() = default;
  FdList(FdList&& o) noexcept { *this = static_cast<FdList&&>(o); }
  FdList& operator=(FdList&& o) noexcept {
    for (u32 i = 0; i < kFrameFdsMax; ++i) items[i] = static_cast<Fd&&>(o.items[i]);
    count = std::exchange(o.count, 0);
    return *this;
  }
  bool push(Fd fd) {
    if (count == kFrameFdsMax) return false;
    items[count++] = static_cast<Fd&&>(fd);
    return true;
  }
};

struct Frame {
  FrameHeader header{kFrameMagic, kFrameVersion, 0, 0, 0};
  String payload;
  FdList fds;
};

// Reads one frame. The Result is false at EOF. Errors: EAGAIN (nothing there), EPROTO (not a frame of this protocol,
// cut short, too many descriptors), EFBIG (payload memfd too large), EPERM (payload memfd not sealed); the socket is
// then of no further use except after EAGAIN.
Result<bool> receive_frame(int socket, Frame& out);

// Moves a payload that does not fit a frame into a sealed memfd. Errors: E2BIG, those of memfd_create and write.
Status fit_payload(Frame& frame);

// Sends one fitted frame without waiting. Error EAGAIN: the peer's buffer is full.
Status send_frame(int socket, const Frame& frame);

// Seals a memfd against every later change (fcntl F_ADD_SEALS).
Status seal_memfd(int fd);

}  // namespace caisson::monitor
