#include <arpa/inet.h>

#include "core/json.h"
#include "core/net_link.h"

namespace caisson {

namespace {

constexpr int kTriesMax = 16;

String address_text(u8 family, span<const u8> address) {
  char buffer[INET6_ADDRSTRLEN] = {};
  u8 bytes[16] = {};
  const size_t size = family == AF_INET ? 4 : 16;
  if (!address.empty()) memcpy(bytes, address.data(), address.size() < size ? address.size() : size);
  return String(inet_ntop(family, bytes, buffer, sizeof buffer) == nullptr ? "" : buffer);
}

void write_mac(JsonWriter& json, span<const u8> mac) {
  constexpr char kDigits[] = "0123456789abcdef";
  String text;
  for (size_t i = 0; i < mac.size() && i < 6; ++i) {
    if (i != 0) text.append(':');
    text.append(kDigits[mac[i] >> 4]).append(kDigits[mac[i] & 15]);
  }
  json.member("mac", text);
}

void write_link(JsonWriter& json, const NetlinkAnswer& answer) {
  uapi::LinkInfo info;
  if (answer.type != uapi::kRtmNewlink || !answer.read(info)) return;
  auto attribute = [&](u16 type) { return answer.attribute(sizeof info, type); };
  uapi::LinkStats64 stats = {};
  const span<const u8> counted = attribute(uapi::kIflaStats64);
  if (counted.size() >= sizeof stats) memcpy(&stats, counted.data(), sizeof stats);
  json.begin_object();
  json.member("index", static_cast<u32>(info.index));
  json.member("name", text_of(attribute(uapi::kIflaIfname)));
  json.member("kind", text_of(find_attribute(attribute(uapi::kIflaLinkinfo), uapi::kIflaInfoKind)));
  json.member("alias", text_of(attribute(uapi::kIflaIfalias)));
  json.member("master", number_of(attribute(uapi::kIflaMaster)));
  json.member("mtu", number_of(attribute(uapi::kIflaMtu)));
  json.member("up", (info.flags & uapi::kIffUp) != 0);
  write_mac(json, attribute(uapi::kIflaAddress));
  json.member("rxBytes", stats.rx_bytes).member("txBytes", stats.tx_bytes);
  json.member("rxPackets", stats.rx_packets).member("txPackets", stats.tx_packets);
  json.member("rxErrors", stats.rx_errors).member("txErrors", stats.tx_errors);
  json.member("rxDropped", stats.rx_dropped).member("txDropped", stats.tx_dropped);
  json.end_object();
}

void write_link_of_pod(JsonWriter& json, const NetlinkAnswer& answer) {
  uapi::LinkInfo info;
  if (answer.read(info) && (info.flags & uapi::kIffLoopback) == 0) write_link(json, answer);
}

void write_address(JsonWriter& json, const NetlinkAnswer& answer) {
  uapi::AddressInfo info;
  if (answer.type != uapi::kRtmNewaddr || !answer.read(info)) return;
  if (info.family != AF_INET && info.family != AF_INET6) return;
  span<const u8> address = answer.attribute(sizeof info, uapi::kIfaLocal);  // of IPv4; of IPv6 on a tunnel
  if (address.empty()) address = answer.attribute(sizeof info, uapi::kIfaAddress);
  json.begin_object();
  json.member("index", info.index);
  json.member("address", address_text(info.family, address).append('/').append_u64(info.prefix));
  json.end_object();
}

void write_route(JsonWriter& json, const NetlinkAnswer& answer) {
  uapi::RouteInfo info;
  if (answer.type != uapi::kRtmNewroute || !answer.read(info)) return;
  if (info.table != uapi::kRtTableMain || info.type != uapi::kRtnUnicast) return;
  if (info.family != AF_INET && info.family != AF_INET6) return;
  auto attribute = [&](u16 type) { return answer.attribute(sizeof info, type); };
  u32 index = number_of(attribute(uapi::kRtaOif));
  // several ways: the first is as good as any (struct rtnexthop: length, flags, hops, index)
  const span<const u8> ways = attribute(uapi::kRtaMultipath);
  if (index == 0 && ways.size() >= 8) index = number_of(ways.subspan(4, 4));
  const bool gateway = !attribute(uapi::kRtaGateway).empty() || !attribute(uapi::kRtaVia).empty();
  json.begin_object();
  json.member("destination",
              address_text(info.family, attribute(uapi::kRtaDst)).append('/').append_u64(info.destination));
  json.member("index", index);
  json.member("gateway", gateway || ways.size() > 8);
  json.end_object();
}

// A dump that was changed under the reader is made again.
template <typename Body, typename Write>
Status dump(Netlink& netlink, u16 type, const Body& body, String& out, Write write, size_t answers_max = SIZE_MAX) {
  for (int tries = 1;; ++tries) {
    String part;
    JsonWriter json(part);
    json.begin_array();
    NetlinkRequest request(type, uapi::kNlmFDump, body);
    size_t answers = 0;
    Status asked = netlink.ask(request, [&](const NetlinkAnswer& answer) {
      if (answers++ < answers_max) write(json, answer);
    });
    json.end_array();
    if (!asked && asked.error().err == EINTR && tries < kTriesMax) continue;
    if (asked) out = static_cast<String&&>(part);
    return asked;
  }
}

}  // namespace

Result<String> survey_network(Netlink& host, bool whole) {
  String links("[]");
  String addresses("[]");
  String routes("[]");
  CAISSON_TRY(dump(host, uapi::kRtmGetlink, uapi::LinkInfo{}, links, write_link));
  if (whole) {
    CAISSON_TRY(dump(host, uapi::kRtmGetaddr, uapi::AddressInfo{}, addresses, write_address));
    CAISSON_TRY(dump(host, uapi::kRtmGetroute, uapi::RouteInfo{}, routes, write_route));
  }
  String json;
  JsonWriter all(json);
  all.begin_object();
  all.key("links").raw(links).key("addresses").raw(addresses).key("routes").raw(routes);
  all.end_object();
  return json;
}

Result<String> survey_links(Netlink& pod, size_t links_max) {
  String links;
  CAISSON_TRY(dump(pod, uapi::kRtmGetlink, uapi::LinkInfo{}, links, write_link_of_pod, links_max));
  return links;
}

}  // namespace caisson
