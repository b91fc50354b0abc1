// The built-in network of pods: links, the table of nf_tables, host ports. Inputs and answers are JSON of
// src/network/bridge. All in the service's own network namespace, but for what a pod's socket reaches.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "addon/native_fd.h"
#include "core/conntrack.h"
#include "core/net_link.h"
#include "core/nft_table.h"
#include "core/words.h"

namespace caisson {
namespace {

Napi::Value text_value(Napi::Env env, String text) { return Napi::String::New(env, text.c_str(), text.size()); }

Status read_mac(const JsonValue& value, u8 (&mac)[6]) {
  string_view rest = CAISSON_TRY(value.string("mac"));
  const string_view text = rest;
  for (u8& byte : mac) {
    u64 number = 0;
    if (!take_number(rest, number, 16) || number > 255) return Error(EINVAL, "parse", text);
    byte = static_cast<u8>(number);
    if (!rest.empty()) rest.remove_prefix(1);
  }
  return ok();
}

Status read_prefixes(const JsonValue& value, Vec<NetPrefix>& prefixes) {
  for (u32 i = 0; i < value.size(); ++i)
    prefixes.push(CAISSON_TRY(parse_prefix(CAISSON_TRY(value.at(i).string("address")))));
  return ok();
}

Result<string_view> read_name(const JsonValue& value, string_view what) {
  const string_view name = CAISSON_TRY(value.string(what));
  if (name.empty() || name.size() > uapi::kIfnameMax) return Error(EINVAL, "parse", what);
  return name;
}

// For the alias of an interface: IFALIASZ is 256, a request 512.
Result<string_view> read_alias(const JsonValue& value) {
  const string_view alias = CAISSON_TRY(value.string("alias"));
  if (alias.size() > 200) return Error(EINVAL, "parse", "alias");
  return alias;
}

NetRate read_rate(const JsonValue& value) { return {value["rate"].u64_or(0), value["burst"].u64_or(0)}; }

Result<PodLink> read_pod_link(const JsonValue& value) {
  PodLink link;
  link.host_name = CAISSON_TRY(read_name(value["hostName"], "hostName"));
  link.alias = CAISSON_TRY(read_alias(value["alias"]));
  link.bridge = CAISSON_TRY(read_name(value["bridge"], "bridge"));
  link.name = CAISSON_TRY(read_name(value["name"], "name"));
  CAISSON_TRY(read_mac(value["mac"], link.mac));
  link.mtu = CAISSON_TRY(value["mtu"].u32_value("mtu"));
  link.hairpin = value["hairpin"].bool_or(false);
  CAISSON_TRY(read_prefixes(value["addresses"], link.addresses));
  CAISSON_TRY(read_prefixes(value["gateways"], link.gateways));
  link.to_pod = read_rate(value["toPod"]);
  link.from_pod = read_rate(value["fromPod"]);
  if (link.from_pod.rate != 0) link.ifb = CAISSON_TRY(read_name(value["ifb"], "ifb"));
  return link;
}

Result<Netlink> pod_netlink(int fd) {
  Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return Error::last("fcntl", "socket of the pod");
  return Netlink::adopt(static_cast<Fd&&>(copy));
}

Status delete_links(Netlink& host, const JsonValue& names) {
  for (u32 i = 0; i < names.size(); ++i) CAISSON_TRY(delete_link(host, CAISSON_TRY(read_name(names.at(i), "name"))));
  return ok();
}

// networkSurvey(whole): Promise<string>
Napi::Value survey(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [whole = info[0].ToBoolean().Value()]() -> Result<String> {
        Netlink host = CAISSON_TRY(Netlink::open());
        return survey_network(host, whole);
      },
      text_value);
}

// networkCounters(podSockets): Promise<string[]>
Napi::Value counters(const Napi::CallbackInfo& info) {
  constexpr size_t kLinksMax = 257;  // loopback is one
  std::vector<Fd> sockets;
  for (const int fd : fds_argument(info[0], "podSockets", 65'536)) {
    Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) throw make_error(info.Env(), Error::last("fcntl", "socket of the pod"));
    sockets.push_back(static_cast<Fd&&>(copy));
  }
  return run_job(
      info.Env(),
      [sockets = std::move(sockets)]() mutable -> Result<std::vector<std::string>> {
        std::vector<std::string> all;
        for (Fd& socket : sockets) {
          Netlink pod = CAISSON_TRY(Netlink::adopt(static_cast<Fd&&>(socket)));
          Result<String> links = survey_links(pod, kLinksMax);
          // one that changes all the time has none, and spoils nobody else's
          if (links)
            all.emplace_back(links->c_str(), links->size());
          else
            all.emplace_back();
        }
        return all;
      },
      [](Napi::Env env, std::vector<std::string> all) -> Napi::Value {
        Napi::Array list = Napi::Array::New(env, all.size());
        for (u32 i = 0; i < all.size(); ++i) list.Set(i, Napi::String::New(env, all[i]));
        return list;
      });
}

// networkBridge(input): Promise<void>
Napi::Value bridge(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [input = string_argument(info[0], "input")]() -> Status {
    JsonDocument document = CAISSON_TRY(JsonDocument::parse(input));
    const JsonValue& value = document.root();
    BridgeLink link;
    link.name = CAISSON_TRY(read_name(value["name"], "name"));
    link.alias = CAISSON_TRY(read_alias(value["alias"]));
    CAISSON_TRY(read_mac(value["mac"], link.mac));
    link.mtu = CAISSON_TRY(value["mtu"].u32_value("mtu"));
    CAISSON_TRY(read_prefixes(value["addresses"], link.addresses));
    Netlink host = CAISSON_TRY(Netlink::open());
    return ensure_bridge(host, link);
  });
}

// networkAttach(input, podSocket, podNamespace): Promise<void>
Napi::Value attach(const Napi::CallbackInfo& info) {
  return run_job(info.Env(),
                 [input = string_argument(info[0], "input"), socket = fd_argument(info[1], "podSocket"),
                  pod_namespace = fd_argument(info[2], "podNamespace")]() -> Status {
                   JsonDocument document = CAISSON_TRY(JsonDocument::parse(input));
                   Netlink host = CAISSON_TRY(Netlink::open());
                   Netlink pod = CAISSON_TRY(pod_netlink(socket));
                   const JsonValue& links = document.root()["links"];
                   for (u32 i = 0; i < links.size(); ++i) {
                     const PodLink link = CAISSON_TRY(read_pod_link(links.at(i)));
                     CAISSON_TRY(attach_pod_link(host, pod, pod_namespace, link));
                   }
                   return ok();
                 });
}

// networkRejoin(input): Promise<void>
Napi::Value rejoin(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [input = string_argument(info[0], "input")]() -> Status {
    JsonDocument document = CAISSON_TRY(JsonDocument::parse(input));
    Netlink host = CAISSON_TRY(Netlink::open());
    return rejoin_bridge(host, CAISSON_TRY(read_pod_link(document.root())));
  });
}

// networkDeleteLinks(names): Promise<void>
Napi::Value remove_links(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [input = string_argument(info[0], "names")]() -> Status {
    JsonDocument document = CAISSON_TRY(JsonDocument::parse(input));
    Netlink host = CAISSON_TRY(Netlink::open());
    return delete_links(host, document.root());
  });
}

Status add_elements(NftBatch& batch, const JsonValue& elements, NftChange change) {
  for (u32 i = 0; i < elements.size(); ++i) CAISSON_TRY(nft_change_element(batch, elements.at(i), change));
  return ok();
}

// nftChange(table, input, replace): Promise<void>
Napi::Value change_table(const Napi::CallbackInfo& info) {
  return run_job(info.Env(),
                 [table = string_argument(info[0], "table"), input = string_argument(info[1], "input"),
                  replace = info[2].ToBoolean().Value()]() -> Status {
                   JsonDocument document = CAISSON_TRY(JsonDocument::parse(input));
                   NftBatch batch(table);
                   if (replace) nft_add_own_table(batch);
                   CAISSON_TRY(add_elements(batch, document.root()["delete"], NftChange::kDelete));
                   CAISSON_TRY(add_elements(batch, document.root()["add"], NftChange::kAdd));
                   return batch.commit();
                 });
}

// nftRemove(table): Promise<void>
Napi::Value remove_table(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [table = string_argument(info[0], "table")]() -> Status {
    NftBatch batch(table);
    batch.add_table();  // so that there is one
    batch.delete_table();
    return batch.commit();
  });
}

// nftState(table): Promise<string>
Napi::Value table_state(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [table = string_argument(info[0], "table")]() -> Result<String> {
        const NftState state = CAISSON_TRY(nft_state(table));
        String text;
        JsonWriter json(text);
        json.begin_object().member("generation", state.generation);
        json.member("whole", state.present && state.rules == kNftTableRules);
        json.member("present", state.present);
        json.end_object();
        return text;
      },
      text_value);
}

// nftDropChains(table): Promise<string>
Napi::Value drop_chains(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [table = string_argument(info[0], "table")]() -> Result<String> {
        const Vec<NftDropChain> chains = CAISSON_TRY(nft_drop_chains(table));
        String text;
        JsonWriter json(text);
        json.begin_array();
        for (const NftDropChain& chain : chains) {
          json.begin_object().member("family", u32{chain.family}).member("hook", chain.hook);
          json.member("table", chain.table).member("chain", chain.chain).end_object();
        }
        json.end_array();
        return text;
      },
      text_value);
}

// IPPROTO_TCP where it is neither of the others.
int protocol_number(string_view name) {
  return name == "udp" ? IPPROTO_UDP : name == "sctp" ? IPPROTO_SCTP : IPPROTO_TCP;
}

// forgetFlows(ports): Promise<void>
Napi::Value forget_port_flows(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [input = string_argument(info[0], "ports")]() -> Status {
    JsonDocument document = CAISSON_TRY(JsonDocument::parse(input));
    Vec<FlowPort> ports;
    for (u32 i = 0; i < document.root().size(); ++i) {
      const JsonValue& entry = document.root().at(i);
      const string_view protocol = CAISSON_TRY(entry["protocol"].string("protocol"));
      const u32 port = CAISSON_TRY(entry["port"].u32_value("port"));
      ports.push({static_cast<u8>(protocol_number(protocol)), static_cast<u16>(port)});
    }
    return forget_flows({ports.data(), ports.size()});
  });
}

// reservePort(protocol, address, port): Promise<NativeFd>. Bound and not listening: nobody else gets the port, and
// whoever comes to it by a way that is not translated is refused.
Napi::Value reserve_port(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(),
      [protocol = string_argument(info[0], "protocol"), text = string_argument(info[1], "address"),
       port = static_cast<u16>(integer_argument(info[2], "port", 1, 65535))]() -> Result<Fd> {
        const NetPrefix address = CAISSON_TRY(parse_prefix(text));
        const int type = protocol == "udp" ? SOCK_DGRAM : SOCK_STREAM;
        Fd fd(socket(address.family, type | SOCK_CLOEXEC, protocol_number(protocol)));
        if (!fd) return Error::last("socket", protocol);
        const int on = 1;
        const int least = 0;
        sockaddr_storage storage = {};
        socklen_t size = sizeof(sockaddr_in);
        if (address.family == AF_INET) {
          sockaddr_in in = {};
          in.sin_family = AF_INET;
          in.sin_port = htons(port);
          memcpy(&in.sin_addr, address.bytes, sizeof in.sin_addr);
          memcpy(&storage, &in, sizeof in);
        } else {
          sockaddr_in6 in = {};
          in.sin6_family = AF_INET6;
          in.sin6_port = htons(port);
          memcpy(&in.sin6_addr, address.bytes, sizeof in.sin6_addr);
          memcpy(&storage, &in, sizeof in);
          size = sizeof in;
          if (setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
            return Error::last("setsockopt", "IPV6_V6ONLY");
        }
        // datagrams that are not translated are nobody's
        if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &least, sizeof least) != 0)
          return Error::last("setsockopt", "SO_RCVBUF");
        if (bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0) return Error::last("bind", text);
        return fd;
      },
      native_fd);
}

}  // namespace

void init_network(Napi::Env env, Napi::Object exports) {
  exports.Set("networkCounters", Napi::Function::New(env, counters, "networkCounters"));
  exports.Set("networkSurvey", Napi::Function::New(env, survey, "networkSurvey"));
  exports.Set("networkBridge", Napi::Function::New(env, bridge, "networkBridge"));
  exports.Set("networkAttach", Napi::Function::New(env, attach, "networkAttach"));
  exports.Set("networkRejoin", Napi::Function::New(env, rejoin, "networkRejoin"));
  exports.Set("networkDeleteLinks", Napi::Function::New(env, remove_links, "networkDeleteLinks"));
  exports.Set("nftChange", Napi::Function::New(env, change_table, "nftChange"));
  exports.Set("nftRemove", Napi::Function::New(env, remove_table, "nftRemove"));
  exports.Set("nftState", Napi::Function::New(env, table_state, "nftState"));
  exports.Set("nftDropChains", Napi::Function::New(env, drop_chains, "nftDropChains"));
  exports.Set("forgetFlows", Napi::Function::New(env, forget_port_flows, "forgetFlows"));
  exports.Set("reservePort", Napi::Function::New(env, reserve_port, "reservePort"));
}

}  // namespace caisson
