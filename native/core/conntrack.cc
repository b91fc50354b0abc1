#include "core/conntrack.h"

#include <sys/socket.h>

#include "core/netlink.h"
#include "core/uapi_net.h"

namespace caisson {

namespace {

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
constexpr u16 kGet = 0x101;
constexpr u16 kDelete = 0x102;
constexpr u16 kTupleOriginal = 1;
constexpr u16 kTupleProtocol = 2;
constexpr u16 kProtocolNumber = 1;
constexpr u16 kProtocolDestination = 3;
constexpr size_t kTupleMax = 256;

bool is_flow_to(span<const u8> tuple, span<const FlowPort> ports) {
  const span<const u8> protocol = find_attribute(tuple, kTupleProtocol);
  const span<const u8> number = find_attribute(protocol, kProtocolNumber);
  const span<const u8> port = find_attribute(protocol, kProtocolDestination);
  if (number.empty() || port.size() < 2) return false;
  const u16 destination = static_cast<u16>(port[0] << 8 | port[1]);
  for (const FlowPort& wanted : ports)
    if (wanted.protocol == number[0] && wanted.port == destination) return true;
  return false;
}

}  // namespace

Status forget_flows(span<const FlowPort> ports) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, uapi::kNetlinkNetfilter));
  if (!fd) return Error::last("socket", "conntrack");
  Netlink netlink = CAISSON_TRY(Netlink::adopt(static_cast<Fd&&>(fd)));
  Vec<NetlinkRequest> doomed;
  NetlinkRequest dump(kGet, uapi::kNlmFDump, uapi::NetfilterHeader{});
  Status asked = netlink.ask(dump, [&](const NetlinkAnswer& answer) {
    uapi::NetfilterHeader header;
    if (!answer.read(header)) return;
    const span<const u8> tuple = answer.attribute(sizeof header, kTupleOriginal);
    if (tuple.size() > kTupleMax || !is_flow_to(tuple, ports)) return;
    NetlinkRequest request(kDelete, uapi::kNlmFAck, uapi::NetfilterHeader{header.family, 0, 0});
    request.add(kTupleOriginal | uapi::kNestedFlag, tuple.data(), tuple.size());
    doomed.push(request);
  });
  // EINTR: some came or went meanwhile; what was seen is what was there before
  if (!asked && asked.error().err != EINTR) return Error(asked.error().err, "netlink", "conntrack");
  for (NetlinkRequest& request : doomed) {
    Status gone = netlink.change(request);
    if (!gone && gone.error().err != ENOENT) return Error(gone.error().err, "netlink", "conntrack");
  }
  return ok();
}

}  // namespace caisson
