#include "core/net_link.h"

#include <arpa/inet.h>

#include "core/net_shape.h"
#include "core/words.h"

namespace caisson {

namespace {

constexpr u16 kChange = uapi::kNlmFAck;
constexpr u16 kMake = uapi::kNlmFAck | uapi::kNlmFCreate | uapi::kNlmFExcl;
constexpr u16 kMakeOrReplace = uapi::kNlmFAck | uapi::kNlmFCreate | uapi::kNlmFReplace;

uapi::LinkInfo up_link() {
  uapi::LinkInfo info = {};
  info.flags = uapi::kIffUp;
  info.change = uapi::kIffUp;
  return info;
}

// No link-local address of its own: it is a port of a bridge, or has the addresses that it is given.
void add_no_link_local(NetlinkRequest& request) {
  const size_t families = request.open_nest(uapi::kIflaAfSpec);
  const size_t inet6 = request.open_nest(AF_INET6);
  request.add(uapi::kIflaInet6AddrGenMode, &uapi::kIn6AddrGenModeNone, 1);
  request.close_nest(inet6);
  request.close_nest(families);
}

// An address that others may use at once: nobody else can have it, so it is not asked for first (IFA_F_NODAD).
NetlinkRequest address_request(const NetPrefix& address, u32 index) {
  uapi::AddressInfo info = {};
  info.family = address.family;
  info.prefix = address.prefix;
  info.index = index;
  NetlinkRequest request(uapi::kRtmNewaddr, kMakeOrReplace, info);
  request.add(uapi::kIfaLocal, address.bytes, address.size());
  request.add(uapi::kIfaAddress, address.bytes, address.size());
  if (address.family == AF_INET6) {
    request.add(uapi::kIfaFlags, uapi::kIfaFNodad);
    return request;
  }
  u32 local = 0;
  memcpy(&local, address.bytes, sizeof local);
  const u32 host_bits = address.prefix >= 32 ? 0 : 0xffffffffU >> address.prefix;
  const u32 broadcast = local | htonl(host_bits);
  if (host_bits > 1) request.add(uapi::kIfaBroadcast, broadcast);
  return request;
}

NetlinkRequest default_route(const NetPrefix& gateway, u32 index) {
  uapi::RouteInfo info = {};
  info.family = gateway.family;
  info.table = uapi::kRtTableMain;
  info.protocol = uapi::kRtprotStatic;
  info.type = uapi::kRtnUnicast;
  NetlinkRequest request(uapi::kRtmNewroute, kMakeOrReplace, info);
  request.add(uapi::kRtaGateway, gateway.bytes, gateway.size());
  request.add(uapi::kRtaOif, index);
  return request;
}

struct Found {
  u32 index = 0;
  bool is_bridge = false;
};

Result<Found> find_link(Netlink& netlink, string_view name) {
  Found found;
  NetlinkRequest request(uapi::kRtmGetlink, 0, uapi::LinkInfo{});
  request.add(uapi::kIflaIfname, name);
  Status asked = netlink.ask(request, [&](const NetlinkAnswer& answer) {
    uapi::LinkInfo info;
    if (answer.type != uapi::kRtmNewlink || !answer.read(info)) return;
    found.index = static_cast<u32>(info.index);
    const span<const u8> kind = find_attribute(answer.attribute(sizeof info, uapi::kIflaLinkinfo), uapi::kIflaInfoKind);
    found.is_bridge = text_of(kind) == "bridge";
  });
  if (!asked) return Error(asked.error().err, "netlink", name);
  return found;
}

// What was being done, to which interface, and what the kernel says of it.
Error told(const Error& error, const char* what, string_view name) {
  String words(name);
  if (error.object[0] != 0) words.append(" (").append(error.object).append(")");
  return Error(error.err, what, words);
}

Status change(Netlink& netlink, Vec<NetlinkRequest>& requests, const char* what, string_view name) {
  size_t failed = 0;
  Status done = netlink.change_all({requests.data(), requests.size()}, failed);
  requests.clear();
  if (!done) return told(done.error(), what, name);
  return ok();
}

// The pair, both ends down: the one that is made first cannot be up without the other (ENOTCONN).
NetlinkRequest make_pair(const PodLink& link, int pod_namespace) {
  NetlinkRequest request(uapi::kRtmNewlink, kMake, uapi::LinkInfo{});
  request.add(uapi::kIflaIfname, link.host_name);
  request.add(uapi::kIflaMtu, link.mtu);
  const size_t info = request.open_nest(uapi::kIflaLinkinfo);
  request.add(uapi::kIflaInfoKind, string_view("veth"));
  const size_t data = request.open_nest(uapi::kIflaInfoData);
  const size_t peer = request.open_nest(uapi::kVethInfoPeer);
  request.add_body(uapi::LinkInfo{});
  request.add(uapi::kIflaIfname, link.name);
  request.add(uapi::kIflaAddress, link.mac, sizeof link.mac);
  request.add(uapi::kIflaMtu, link.mtu);
  request.add(uapi::kIflaNetNsFd, static_cast<u32>(pod_namespace));
  request.close_nest(peer);
  request.close_nest(data);
  request.close_nest(info);
  return request;
}

NetlinkRequest join_bridge(const PodLink& link, u32 bridge) {
  NetlinkRequest request(uapi::kRtmNewlink, kChange, up_link());
  request.add(uapi::kIflaIfname, link.host_name);
  request.add(uapi::kIflaIfalias, link.alias);
  request.add(uapi::kIflaMaster, bridge);
  return request;
}

NetlinkRequest set_hairpin(const PodLink& link) {
  const u8 on = link.hairpin ? 1 : 0;
  NetlinkRequest request(uapi::kRtmNewlink, kChange, uapi::LinkInfo{});
  request.add(uapi::kIflaIfname, link.host_name);
  const size_t info = request.open_nest(uapi::kIflaLinkinfo);
  request.add(uapi::kIflaInfoSlaveKind, string_view("bridge"));
  const size_t data = request.open_nest(uapi::kIflaInfoSlaveData | uapi::kNestedFlag);
  request.add(uapi::kIflaBrportMode, &on, sizeof on);
  request.close_nest(data);
  request.close_nest(info);
  return request;
}

Status configure_pod_end(Netlink& pod, const PodLink& link) {
  const Found end = CAISSON_TRY(find_link(pod, link.name));
  Vec<NetlinkRequest> requests;
  uapi::LinkInfo up = up_link();
  up.index = static_cast<i32>(end.index);
  requests.push(NetlinkRequest(uapi::kRtmNewlink, kChange, up));
  for (const NetPrefix& address : link.addresses) requests.push(address_request(address, end.index));
  for (const NetPrefix& gateway : link.gateways) requests.push(default_route(gateway, end.index));
  return change(pod, requests, "configure", link.name);
}

}  // namespace

size_t NetPrefix::size() const { return family == AF_INET ? 4 : 16; }

Result<NetPrefix> parse_prefix(string_view text) {
  NetPrefix parsed;
  string_view rest = text;
  const String address(take_until(rest, '/'));
  parsed.family = address.view().find(':') == string_view::npos ? AF_INET : AF_INET6;
  u64 prefix = parsed.size() * 8;
  if (inet_pton(parsed.family, address.c_str(), parsed.bytes) != 1) return Error(EINVAL, "parse", text);
  if (address.size() != text.size() && (!is_number(rest, prefix) || prefix > parsed.size() * 8))
    return Error(EINVAL, "parse", text);
  parsed.prefix = static_cast<u8>(prefix);
  return parsed;
}

Status ensure_bridge(Netlink& host, const BridgeLink& link) {
  Vec<NetlinkRequest> requests;
  NetlinkRequest make(uapi::kRtmNewlink, kMake, uapi::LinkInfo{});
  make.add(uapi::kIflaIfname, link.name);
  make.add(uapi::kIflaAddress, link.mac, sizeof link.mac);
  make.add(uapi::kIflaMtu, link.mtu);
  const size_t info = make.open_nest(uapi::kIflaLinkinfo);
  make.add(uapi::kIflaInfoKind, string_view("bridge"));
  make.close_nest(info);
  Status made = host.change(make);
  if (!made && made.error().err != EEXIST) return told(made.error(), "create bridge", link.name);
  const Found found = CAISSON_TRY(find_link(host, link.name));
  if (!found.is_bridge) return Error(EEXIST, "create bridge", link.name);
  NetlinkRequest quiet(uapi::kRtmNewlink, kChange, uapi::LinkInfo{});
  quiet.add(uapi::kIflaIfname, link.name);
  add_no_link_local(quiet);
  requests.push(quiet);
  NetlinkRequest up(uapi::kRtmNewlink, kChange, up_link());
  up.add(uapi::kIflaIfname, link.name);
  up.add(uapi::kIflaAddress, link.mac, sizeof link.mac);
  up.add(uapi::kIflaMtu, link.mtu);
  up.add(uapi::kIflaIfalias, link.alias);
  requests.push(up);
  for (const NetPrefix& address : link.addresses) requests.push(address_request(address, found.index));
  return change(host, requests, "set up bridge", link.name);
}

Status attach_pod_link(Netlink& host, Netlink& pod, int pod_namespace, const PodLink& link) {
  const Found bridge = CAISSON_TRY(find_link(host, link.bridge));
  Vec<NetlinkRequest> requests;
  NetlinkRequest pair = make_pair(link, pod_namespace);
  Status made = host.change(pair);
  if (!made) return told(made.error(), "create veth", link.host_name);
  Defer undo([&] {
    Status gone = delete_link(host, link.host_name);
    (void)gone;  // the first error is the one to tell; detach takes away what is left
  });
  NetlinkRequest quiet(uapi::kRtmNewlink, kChange, uapi::LinkInfo{});
  quiet.add(uapi::kIflaIfname, link.host_name);
  add_no_link_local(quiet);
  requests.push(quiet);
  requests.push(join_bridge(link, bridge.index));
  if (link.hairpin) requests.push(set_hairpin(link));
  CAISSON_TRY(change(host, requests, "join bridge", link.host_name));
  CAISSON_TRY(configure_pod_end(pod, link));
  CAISSON_TRY(shape_link(host, link));
  undo.dismiss();
  return ok();
}

Status rejoin_bridge(Netlink& host, const PodLink& link) {
  const Found bridge = CAISSON_TRY(find_link(host, link.bridge));
  Vec<NetlinkRequest> requests;
  requests.push(join_bridge(link, bridge.index));
  if (link.hairpin) requests.push(set_hairpin(link));
  return change(host, requests, "join bridge", link.host_name);
}

Result<u32> link_index(Netlink& netlink, string_view name) { return CAISSON_TRY(find_link(netlink, name)).index; }

Status delete_link(Netlink& host, string_view name) {
  NetlinkRequest request(uapi::kRtmDellink, kChange, uapi::LinkInfo{});
  request.add(uapi::kIflaIfname, name);
  Status gone = host.change(request);
  if (!gone && gone.error().err != ENODEV) return told(gone.error(), "delete link", name);
  return ok();
}

}  // namespace caisson
