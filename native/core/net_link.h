// Links of the built-in network: bridges of the host, and for each pod a pair whose one end is in the pod's network
// namespace. Interfaces are found by name; nothing here enters a namespace.
#pragma once

#include "core/netlink.h"
#include "core/uapi_net.h"

namespace caisson {

// An address; with `prefix`, of an interface or a network.
struct NetPrefix {
  u8 family = 0;  // AF_INET, AF_INET6
  u8 bytes[16] = {};
  u8 prefix = 0;
  size_t size() const;
};

// "10.88.0.1/16", "fd00::1/64". Errors: EINVAL with the text.
Result<NetPrefix> parse_prefix(string_view text);

// Bits per second, and bytes that may go at once beyond it; 0: no limit.
struct NetRate {
  u64 rate = 0;
  u64 burst = 0;
};

struct BridgeLink {
  string_view name;
  string_view alias;
  u8 mac[6] = {};
  u32 mtu = 0;
  Vec<NetPrefix> addresses;
};

// Makes the bridge, or makes one of this name as it is to be; sets it up. Errors: EEXIST where an interface of another
// kind has the name, and those of rtnetlink(7) with its words.
Status ensure_bridge(Netlink& host, const BridgeLink& link);

struct PodLink {
  string_view host_name;  // of the end on the host
  string_view alias;      // of that end: whose it is
  string_view bridge;
  string_view name;  // of the end in the pod
  u8 mac[6] = {};
  u32 mtu = 0;
  bool hairpin = false;
  Vec<NetPrefix> addresses;
  Vec<NetPrefix> gateways;  // of default routes
  NetRate to_pod;
  NetRate from_pod;
  string_view ifb;  // name of the interface that shapes what comes from the pod
};

// Makes the pair, puts one end up on the bridge, and the other up in the pod's namespace with its addresses and
// routes. `host` and `pod` are sockets made in their namespaces. After an error nothing is left.
// Errors: ENODEV (the bridge is not there), EEXIST (a name is taken), EXFULL (the bridge has 1024 ports).
Status attach_pod_link(Netlink& host, Netlink& pod, int pod_namespace, const PodLink& link);

// Puts the host's end of a pair, which has lost its bridge, on the bridge of that name again. Errors: ENODEV.
Status rejoin_bridge(Netlink& host, const PodLink& link);

// Takes the name away from the host, and its peer with it; one that is not there is fine.
Status delete_link(Netlink& host, string_view name);

Result<u32> link_index(Netlink& netlink, string_view name);  // ENODEV

// What there is in the host's network, as JSON: {"links": [{"index", "name", "kind", "alias", "master", "mtu", "up",
// "mac", "rxBytes", …}], "addresses": [{"index", "address"}], "routes": [{"destination", "index", "gateway"}]}: routes
// of the main table, a default one as "0.0.0.0/0" or "::/0". Without `whole`, the links alone.
Result<String> survey_network(Netlink& host, bool whole);

// Those of a pod's network, loopback left out, as a list; `links_max` are looked at: a pod may make as many as it
// likes.
Result<String> survey_links(Netlink& pod, size_t links_max);

}  // namespace caisson
