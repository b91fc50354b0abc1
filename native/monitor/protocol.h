// The control protocol of a monitor: SOCK_SEQPACKET frames of at most 32 KiB, a fixed header and a JSON payload.
// A larger payload travels as a sealed memfd, the last descriptor of the frame, flagged kPayloadInMemfd.
// docs/architecture.md, "The monitor's protocol", lists the payload of every type; src/pod/monitor/ is the client.
#pragma once

#include "core/base.h"

namespace caisson {

struct FrameHeader {
  u32 magic;
  u16 version;  // of the frozen part
  u16 type;
  u32 request;  // chosen by the client; a reply repeats it; 0 in an event
  u32 flags;
};
static_assert(sizeof(FrameHeader) == 16);

inline constexpr u32 kFrameMagic = 0x314e5343;  // "CSN1" in memory order
inline constexpr u16 kFrameVersion = 1;
inline constexpr size_t kFrameMax = 32 * 1024;
inline constexpr size_t kFrameFdsMax = 8;

enum FrameFlag : u32 {
  kFlagReply = 1,
  kFlagError = 2,
  kFlagEvent = 4,
  kFlagPayloadInMemfd = 8,
};

enum class FrameType : u16 {
  // Frozen for ever: any service can ask these of any monitor.
  kHello = 1,
  kList = 2,
  kExits = 3,
  kKill = 4,
  kReexec = 5,
  // Private to one build.
  kPodSetup = 64,
  kContainerCreate = 65,
  kContainerStart = 66,
  kContainerSignal = 67,
  kContainerRemove = 68,
  kExec = 69,
  kLogReopen = 70,
  kShutdown = 71,
  kPodNamespace = 72,
  kPodSocket = 73,
  kContainerAttach = 74,
  kExecStream = 75,
  kContainerResize = 76,
  kExecWait = 77,
  kExecKill = 78,
  kPodPrepare = 84,
  // Events, sent to every connection that said hello.
  kEventExit = 128,
  kEventOom = 129,
  kEventAttachDropped = 130,
};

}  // namespace caisson
