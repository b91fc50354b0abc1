#include "core/nft_table.h"

#include <arpa/inet.h>

#include "core/net_link.h"
#include "core/nft_encode.h"

namespace caisson {

namespace {

constexpr u32 kEstablishedOrRelated = 6;   // of ct state
constexpr u32 kDestinationChanged = 0x20;  // IPS_DST_NAT of ct status
constexpr u8 kLoopback = 127;
constexpr u32 kSecondWord = uapi::kNftReg32 + 1;
constexpr u32 kThirdWord = uapi::kNftReg32 + 2;
constexpr u32 kSixthWord = uapi::kNftReg32 + 5;
constexpr u32 kSecondRegister = 2;  // of 16 bytes

using enum NftType;
constexpr NftSet kSets[] = {
    {"bridges", {kIfname}, {}},
    {"internals", {kIfname}, {}},
    {"uplinks", {kIfname}, {}},
    {"networks4", {kIpv4}, {}, true},
    {"networks6", {kIpv6}, {}, true},
    {"pairs", {kIfname, kIfname}, {}},
    {"ports4", {kProtocol, kIpv4, kPort}, {kIpv4, kPort}},
    {"ports6", {kProtocol, kIpv6, kPort}, {kIpv6, kPort}},
    {"anyports4", {kProtocol, kPort}, {kIpv4, kPort}},
    {"anyports6", {kProtocol, kPort}, {kIpv6, kPort}},
};

// The host's loopback network is routed to bridges, for its own ports; nobody on a bridge is to speak to it
// (CVE-2020-8558).
void add_guard(NftBatch& batch) {
  const NftHook hook = {"filter", 0, -300};
  batch.add_chain("guard", &hook);
  NftRule rule;
  rule.meta(uapi::kNftMetaIifname).in_set("bridges").nfproto(uapi::kNfprotoIpv4);
  rule.network(16, 1).equals({&kLoopback, 1}).verdict(uapi::kNfDrop);
  batch.add_rule("guard", rule, "meta iifname, drop");
}

void add_ports(NftBatch& batch) {
  batch.add_chain("ports");
  // what comes from ::1 cannot leave by a bridge: refused at once is better than lost
  constexpr u8 kLoopback6[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  NftRule loopback;
  loopback.nfproto(uapi::kNfprotoIpv6).network(24, 16).equals(kLoopback6).verdict(uapi::kNftReturn);
  batch.add_rule("ports", loopback, "ip6 daddr, return");
  NftRule bound4;
  bound4.nfproto(uapi::kNfprotoIpv4).meta(uapi::kNftMetaL4proto).network(16, 4, kSecondWord);
  bound4.destination_port(kThirdWord).map("ports4").dnat(uapi::kNfprotoIpv4, kSecondWord);
  batch.add_rule("ports", bound4, "dnat ip");
  NftRule bound6;
  bound6.nfproto(uapi::kNfprotoIpv6).meta(uapi::kNftMetaL4proto).network(24, 16, kSecondWord);
  bound6.destination_port(kSixthWord).map("ports6").dnat(uapi::kNfprotoIpv6, kSecondRegister);
  batch.add_rule("ports", bound6, "dnat ip6");
  NftRule any4;
  any4.nfproto(uapi::kNfprotoIpv4).meta(uapi::kNftMetaL4proto).destination_port(kSecondWord);
  any4.map("anyports4").dnat(uapi::kNfprotoIpv4, kSecondWord);
  batch.add_rule("ports", any4, "dnat ip");
  NftRule any6;
  any6.nfproto(uapi::kNfprotoIpv6).meta(uapi::kNftMetaL4proto).destination_port(kSecondWord);
  any6.map("anyports6").dnat(uapi::kNfprotoIpv6, kSecondRegister);
  batch.add_rule("ports", any6, "dnat ip6");
}

void add_entrance(NftBatch& batch, string_view chain, u32 hook_number) {
  const NftHook hook = {"nat", hook_number, -100};
  batch.add_chain(chain, &hook);
  NftRule rule;
  rule.local_destination().verdict(uapi::kNftJump, "ports");
  batch.add_rule(chain, rule, "fib daddr type (CONFIG_NFT_FIB_INET)");
}

void add_forward(NftBatch& batch) {
  const NftHook hook = {"filter", 2, 0};
  batch.add_chain("forward", &hook);
  auto add = [&](NftRule& rule, const char* label) { batch.add_rule("forward", rule, label); };
  NftRule known;
  add(known.ct_any(uapi::kNftCtState, kEstablishedOrRelated).verdict(uapi::kNfAccept), "ct state (CONFIG_NFT_CT)");
  NftRule same;  // where br_netfilter shows what a bridge does
  same.meta(uapi::kNftMetaIifname).meta(uapi::kNftMetaOifname, kSecondRegister).in_set("pairs");
  add(same.verdict(uapi::kNfAccept), "meta iifname . oifname");
  NftRule port;
  add(port.ct_any(uapi::kNftCtStatus, kDestinationChanged).verdict(uapi::kNfAccept), "ct status (CONFIG_NFT_CT)");
  NftRule across;
  across.meta(uapi::kNftMetaIifname).in_set("bridges").meta(uapi::kNftMetaOifname).in_set("bridges");
  add(across.reject(), "reject (CONFIG_NFT_REJECT_INET)");
  NftRule internal;
  add(internal.meta(uapi::kNftMetaIifname).in_set("internals").reject(), "reject (CONFIG_NFT_REJECT_INET)");
  NftRule out;
  add(out.meta(uapi::kNftMetaIifname).in_set("bridges").verdict(uapi::kNfAccept), "meta iifname, accept");
  NftRule in;
  add(in.meta(uapi::kNftMetaOifname).in_set("bridges").verdict(uapi::kNfDrop), "meta oifname, drop");
  NftRule transit;  // as it was before their forwarding was on
  add(transit.meta(uapi::kNftMetaIifname).in_set("uplinks").verdict(uapi::kNfDrop), "meta iifname, drop");
}

void add_postrouting(NftBatch& batch) {
  const NftHook hook = {"nat", 4, 100};
  batch.add_chain("postrouting", &hook);
  auto add = [&](NftRule& rule) { batch.add_rule("postrouting", rule, "masquerade (CONFIG_NFT_MASQ)"); };
  NftRule loopback;
  loopback.nfproto(uapi::kNfprotoIpv4).network(12, 1).equals({&kLoopback, 1});
  add(loopback.meta(uapi::kNftMetaOifname).in_set("bridges").masquerade(false));
  // The answer to a pod that came by a port of the host must go back by way of the host. The interface that it came by
  // is not known here where br_netfilter translates.
  NftRule hairpin4;
  hairpin4.nfproto(uapi::kNfprotoIpv4).network(12, 4).in_set("networks4").meta(uapi::kNftMetaOifname);
  add(hairpin4.in_set("bridges").ct_any(uapi::kNftCtStatus, kDestinationChanged).masquerade(false));
  NftRule hairpin6;
  hairpin6.nfproto(uapi::kNfprotoIpv6).network(8, 16).in_set("networks6").meta(uapi::kNftMetaOifname);
  add(hairpin6.in_set("bridges").ct_any(uapi::kNftCtStatus, kDestinationChanged).masquerade(false));
  NftRule out;
  out.meta(uapi::kNftMetaIifname).in_set("bridges").meta(uapi::kNftMetaOifname).in_set("bridges", true);
  add(out.masquerade(true));
}

Error bad(string_view what, string_view value) {
  String words(what);
  words.append(": ").append(value);
  return Error(EINVAL, "parse", words);
}

Status put_component(Vec<u8>& out, NftType type, const JsonValue& value) {
  u8 bytes[16] = {};
  switch (type) {
    case kIpv4:
    case kIpv6: {
      const string_view text = CAISSON_TRY(value.string("address"));
      if (inet_pton(type == kIpv4 ? AF_INET : AF_INET6, text.data(), bytes) != 1) return bad("not an address", text);
      break;
    }
    case kProtocol: {
      const string_view text = CAISSON_TRY(value.string("protocol"));
      bytes[0] = text == "tcp" ? IPPROTO_TCP : text == "udp" ? IPPROTO_UDP : text == "sctp" ? IPPROTO_SCTP : 0;
      if (bytes[0] == 0) return bad("not tcp, udp or sctp", text);
      break;
    }
    case kPort: {
      const u32 port = CAISSON_TRY(value.u32_value("port"));
      if (port == 0 || port > 65535) return bad("not a port", value.number_text());
      bytes[0] = static_cast<u8>(port >> 8);
      bytes[1] = static_cast<u8>(port);
      break;
    }
    case kIfname: {
      const string_view text = CAISSON_TRY(value.string("interface"));
      if (text.empty() || text.size() > uapi::kIfnameMax) return bad("not the name of an interface", text);
      memcpy(bytes, text.data(), text.size());
      break;
    }
    case kNone:
      return bad("too many components", "");
  }
  nft::put(out, bytes, NftSet::size_of(type));
  return ok();
}

Result<Vec<u8>> concatenated(const NftType (&types)[NftSet::kComponents], const JsonValue& values) {
  Vec<u8> bytes;
  for (u32 i = 0; i < NftSet::kComponents; ++i) {
    if (types[i] != kNone) CAISSON_TRY(put_component(bytes, types[i], values.at(i)));
  }
  return bytes;
}

// The addresses of a network, which does not end with the last of all.
Status add_network(NftBatch& batch, const NftSet& set, const JsonValue& value, NftChange change) {
  const string_view text = CAISSON_TRY(value.string("network"));
  const NetPrefix network = CAISSON_TRY(parse_prefix(text));
  const int family = set.key[0] == kIpv4 ? AF_INET : AF_INET6;
  NetPrefix end = network;
  if (network.family != family || network.prefix == 0) return bad("not a network of the set's family", text);
  int at = (network.prefix - 1) / 8;
  u32 carry = 0x80U >> ((network.prefix - 1) % 8);  // the last bit that names the network
  for (; at >= 0 && carry != 0; --at) {
    carry += end.bytes[at];
    end.bytes[at] = static_cast<u8>(carry);
    carry >>= 8;
  }
  if (carry != 0 || change == NftChange::kDelete) return bad("not a network that can be added", text);
  batch.add_range(set.name, {network.bytes, network.size()}, {end.bytes, end.size()});
  return ok();
}

}  // namespace

void nft_add_own_table(NftBatch& batch) {
  batch.add_table();  // so that there is one to be deleted
  batch.delete_table();
  batch.add_table();
  for (const NftSet& set : kSets) batch.add_set(set);
  add_guard(batch);
  add_ports(batch);
  add_entrance(batch, "prerouting", 0);
  add_entrance(batch, "output", 3);
  add_forward(batch);
  add_postrouting(batch);
}

Status nft_change_element(NftBatch& batch, const JsonValue& element, NftChange change) {
  const string_view name = CAISSON_TRY(element["set"].string("set"));
  for (const NftSet& set : kSets) {
    if (set.name != name) continue;
    if (set.interval) return add_network(batch, set, element["key"].at(0), change);
    const Vec<u8> key = CAISSON_TRY(concatenated(set.key, element["key"]));
    if (change == NftChange::kDelete) {
      batch.delete_element(name, key);
      return ok();
    }
    const Vec<u8> data = CAISSON_TRY(concatenated(set.data, element["data"]));
    batch.add_element(name, key, data);
    return ok();
  }
  return bad("no such set", name);
}

}  // namespace caisson
