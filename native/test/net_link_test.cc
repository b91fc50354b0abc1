// The built-in network's links and its table, in network namespaces of the test: ip(8), ping, tc(8) and nft(8) say
// what is there.
#include "core/net_link.h"

#include <sys/socket.h>

#include "core/nft_table.h"
#include "core/sys.h"
#include "test/check.h"
#include "test/networks.h"

using namespace caisson;
using namespace caisson::test;

namespace {

bool has(const String& text, string_view part) { return text.view().find(part) != string_view::npos; }

void expect(const Status& done) {
  if (!done) fprintf(stderr, "%d %s: %s\n", done.error().err, done.error().call, done.error().object);
  CHECK(done);
}

void refused(const Status& done, int err, string_view text) {
  const bool held =
      !done && done.error().err == err && string_view(done.error().object).find(text) != string_view::npos;
  if (!held) fprintf(stderr, "got %d %s\n", done ? 0 : done.error().err, done ? "done" : done.error().object);
  CHECK(held);
}

NetPrefix prefix(string_view text) {
  auto parsed = parse_prefix(text);
  CHECK(parsed);
  return *parsed;
}

Netlink host_netlink() {
  auto made = Netlink::open();
  if (!made) abort();
  return made.take();
}

Netlink netlink_in(const Fd& network) {
  auto made = Netlink::open_in(network.get());
  if (!made) abort();
  return made.take();
}

BridgeLink bridge_link() {
  BridgeLink link;
  link.name = "br0";
  link.alias = "caisson network default";
  const u8 mac[6] = {0x0a, 0x58, 10, 88, 0, 1};
  memcpy(link.mac, mac, sizeof mac);
  link.mtu = 1400;
  link.addresses.push(prefix("10.88.0.1/16"));
  link.addresses.push(prefix("fd00:88::1/64"));
  return link;
}

PodLink pod_link(string_view host_name, u8 number) {
  PodLink link;
  link.host_name = host_name;
  link.alias = "caisson pod";
  link.bridge = "br0";
  link.name = "eth0";
  const u8 mac[6] = {0x0a, 0x58, 10, 88, 0, number};
  memcpy(link.mac, mac, sizeof mac);
  link.mtu = 1400;
  link.addresses.push(prefix("10.88.0.1/16"));
  link.addresses.push(prefix("fd00:88::1/64"));
  link.addresses[0].bytes[3] = number;
  link.addresses[1].bytes[15] = number;
  link.gateways.push(prefix("10.88.0.1"));
  link.gateways.push(prefix("fd00:88::1"));
  return link;
}

void prefixes() {
  CHECK(prefix("10.1.2.3").prefix == 32 && prefix("fd00::/8").prefix == 8 && prefix("::1").family == AF_INET6);
  for (string_view bad : {"", "10.1.2", "10.1.2.3/33", "10.1.2.3/", "10.1.2.3/8x", "::/129", "eth0/8"})
    CHECK(!parse_prefix(bad));
}

void bridges() {
  Netlink host = host_netlink();
  for (int again = 0; again < 2; ++again) expect(ensure_bridge(host, bridge_link()));
  String shown = output_of("ip -d addr show br0");
  CHECK(has(shown, "mtu 1400") && has(shown, "0a:58:0a:58:00:01") && has(shown, "alias caisson network default"));
  CHECK(has(shown, "inet 10.88.0.1/16 brd 10.88.255.255") && has(shown, "inet6 fd00:88::1/64"));
  CHECK(!has(shown, "fe80") && !has(shown, "tentative") && has(shown, "bridge forward_delay"));
  CHECK(output_of("ip link add d0 type veth peer name d1").empty());
  BridgeLink taken = bridge_link();
  taken.name = "d0";
  refused(ensure_bridge(host, taken), EEXIST, "d0");
}

void pods_reach_each_other() {
  Netlink host = host_netlink();
  Fd first = new_network();
  Fd second = new_network();
  Netlink in_first = netlink_in(first);
  Netlink in_second = netlink_in(second);
  PodLink link = pod_link("csn1", 2);
  link.hairpin = true;
  expect(attach_pod_link(host, in_first, first.get(), link));
  expect(attach_pod_link(host, in_second, second.get(), pod_link("csn2", 3)));
  String inside = output_in(first, "ip addr show eth0; ip route; ip -6 route");
  CHECK(has(inside, "mtu 1400") && has(inside, "0a:58:0a:58:00:02") && has(inside, "inet 10.88.0.2/16"));
  CHECK(has(inside, "default via 10.88.0.1") && has(inside, "default via fd00:88::1"));
  String outside = output_of("ip -d addr show csn1");
  CHECK(has(outside, "master br0") && has(outside, "alias caisson pod") && has(outside, "hairpin on"));
  CHECK(!has(outside, "inet6"));
  CHECK(has(output_in(first, "busybox ping -c1 -W5 10.88.0.3"), " 0% packet loss"));
  CHECK(has(output_in(first, "busybox ping -6 -c1 -W5 fd00:88::3"), " 0% packet loss"));
  CHECK(has(output_in(second, "busybox ping -c1 -W5 10.88.0.1"), " 0% packet loss"));
  expect(delete_link(host, "br0"));
  refused(rejoin_bridge(host, link), ENODEV, "br0");
  expect(ensure_bridge(host, bridge_link()));
  expect(rejoin_bridge(host, link));
  expect(rejoin_bridge(host, pod_link("csn2", 3)));
  CHECK(has(output_in(first, "busybox ping -c1 -W5 10.88.0.3"), " 0% packet loss"));
  auto survey = survey_network(host, true);
  CHECK(survey && has(*survey, "\"name\":\"csn1\",\"kind\":\"veth\",\"alias\":\"caisson pod\""));
  CHECK(survey && has(*survey, "\"address\":\"fd00:88::1/64\"") && has(*survey, "\"destination\":\"10.88.0.0/16\""));
  for (int again = 0; again < 2; ++again) expect(delete_link(host, "csn1"));
  expect(delete_link(host, "csn2"));
  CHECK(!has(output_in(first, "ip -br link"), "eth0"));
}

void failures_leave_nothing() {
  Netlink host = host_netlink();
  Fd network = new_network();
  Netlink pod = netlink_in(network);
  PodLink link = pod_link("csn1", 2);
  link.bridge = "br9";
  refused(attach_pod_link(host, pod, network.get(), link), ENODEV, "br9");
  link.bridge = "lo";
  refused(attach_pod_link(host, pod, network.get(), link), EOPNOTSUPP, "csn1");
  link = pod_link("csn1", 2);
  link.gateways[0] = prefix("192.0.2.1");
  refused(attach_pod_link(host, pod, network.get(), link), ENETUNREACH, "eth0 (Nexthop has invalid gateway)");
  CHECK(!has(output_of("ip -br link"), "csn1") && !has(output_in(network, "ip -br link"), "eth0"));
  link = pod_link("d0", 2);
  refused(attach_pod_link(host, pod, network.get(), link), EEXIST, "d0");
  CHECK(has(output_of("ip -br link"), "d0"));
}

void bandwidth() {
  Netlink host = host_netlink();
  Fd network = new_network();
  Netlink pod = netlink_in(network);
  PodLink link = pod_link("csn1", 2);
  link.ifb = "csi1";
  link.to_pod = {8'000'000, 0};
  link.from_pod = {80'000'000'000, 1 << 20};
  expect(attach_pod_link(host, pod, network.get(), link));
  CHECK(has(output_of("tc qdisc show dev csn1"), "rate 8Mbit burst 16Kb lat 100ms"));
  CHECK(has(output_of("tc qdisc show dev csi1"), "rate 80Gbit burst 10"));
  CHECK(has(output_of("tc filter show dev csn1 ingress"), "Egress Redirect to device csi1"));
  CHECK(has(output_in(network, "busybox ping -c1 -W5 10.88.0.1"), " 0% packet loss"));
  expect(delete_link(host, "csi1"));
  expect(delete_link(host, "csn1"));
}

Status change_elements(NftBatch& batch, string_view json, NftChange change) {
  auto document = JsonDocument::parse(json);
  if (!document) abort();
  for (u32 i = 0; i < document->root().size(); ++i)
    CAISSON_TRY(nft_change_element(batch, document->root().at(i), change));
  return ok();
}

constexpr string_view kElements = R"([{"set":"bridges","key":["br0"]}, {"set":"pairs","key":["br0","br0"]},
  {"set":"networks4","key":["10.88.0.0/14"]}, {"set":"networks6","key":["fd00:88:ff:ffff::/64"]},
  {"set":"ports4","key":["tcp","192.0.2.1",8080],"data":["10.88.0.2",80]},
  {"set":"ports6","key":["sctp","2001:db8::1",8080],"data":["fd00:88::2",80]},
  {"set":"anyports4","key":["udp",53],"data":["10.88.0.2",5353]},
  {"set":"anyports6","key":["udp",53],"data":["fd00:88::2",5353]}])";

// What nft(8) lists is what nft(8) would have made of the same text.
void table() {
  for (int again = 0; again < 2; ++again) {
    NftBatch batch("caisson");
    nft_add_own_table(batch);
    expect(change_elements(batch, kElements, NftChange::kAdd));
    expect(batch.commit());
  }
  const String listed = output_of("nft list table inet caisson");
  for (string_view line :
       {"elements = { \"br0\" . \"br0\" }", "elements = { 10.88.0.0/14 }", "elements = { fd00:88:ff:ffff::/64 }",
        "elements = { tcp . 192.0.2.1 . 8080 : 10.88.0.2 . 80 }",
        "elements = { sctp . 2001:db8::1 . 8080 : fd00:88::2 . 80 }", "elements = { udp . 53 : 10.88.0.2 . 5353 }",
        "elements = { udp . 53 : fd00:88::2 . 5353 }", "iifname @bridges ip daddr 127.0.0.0/8 drop",
        "dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6", "fib daddr type local jump ports",
        "ip saddr @networks4 oifname @bridges ct status dnat masquerade",
        "ip6 saddr @networks6 oifname @bridges ct status dnat masquerade",
        "iifname @bridges oifname != @bridges masquerade fully-random"})
    CHECK(has(listed, line));
  auto state = nft_state("caisson");
  CHECK(state && state->present && state->rules == kNftTableRules && state->generation != 0);
  auto absent = nft_state("other");
  CHECK(absent && !absent->present);
  NftBatch gone("caisson");
  expect(change_elements(gone, R"([{"set":"anyports4","key":["udp",53]}])", NftChange::kDelete));
  expect(gone.commit());
  refused(gone.commit(), ENOENT, "anyports4");
  CHECK(!has(output_of("nft list table inet caisson"), "10.88.0.2 . 5353"));
  output_of(
      "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'");
  auto drops = nft_drop_chains("caisson");
  CHECK(drops && drops->size() == 1 && (*drops)[0].chain.view() == "FORWARD" && (*drops)[0].hook == 2);
}

void bad_elements() {
  for (string_view bad :
       {R"({"set":"nope","key":["br0"]})", R"({"set":"bridges","key":["a-name-that-is-too-long"]})",
        R"({"set":"bridges","key":[1]})", R"({"set":"anyports4","key":["icmp",1],"data":["1.2.3.4",1]})",
        R"({"set":"anyports4","key":["tcp",0],"data":["1.2.3.4",1]})", R"({"set":"anyports4","key":["tcp",1]})",
        R"({"set":"networks4","key":["fd00::/8"]})", R"({"set":"networks4","key":["255.255.0.0/16"]})",
        R"({"set":"networks6","key":["::/0"]})", R"({"set":"anyports4","key":["tcp",70000],"data":["1.2.3.4",1]})",
        R"({"set":"anyports4","key":["tcp",1],"data":["::1",1]})"}) {
    auto document = JsonDocument::parse(bad);
    NftBatch batch("caisson");
    CHECK(document && !nft_change_element(batch, document->root(), NftChange::kAdd));
  }
}

}  // namespace

int main() {
  prefixes();
  bad_elements();
  if (geteuid() != 0) {
    printf("links and table: skipped, need root\n");
    return done();
  }
  if (sys::unshare(uapi::kCloneNewnet) != 0) return perror("unshare"), 1;
  output_of("ip link set lo up");
  bridges();
  pods_reach_each_other();
  failures_leave_nothing();
  bandwidth();
  table();
  return done();
}
