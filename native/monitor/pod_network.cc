// What the service gets of the pod's namespaces: descriptors, so that it enters none itself.
#include <fcntl.h>
#include <sys/socket.h>

#include "core/net_socket.h"
#include "core/uapi.h"
#include "monitor/pod.h"

namespace caisson::monitor {

namespace {

struct SocketKind {
  string_view name;
  int domain;
  int type;
  int protocol;
};

constexpr SocketKind kSocketKinds[] = {
    {"tcp4", AF_INET, SOCK_STREAM, 0},
    {"tcp6", AF_INET6, SOCK_STREAM, 0},
    {"udp4", AF_INET, SOCK_DGRAM, 0},
    {"udp6", AF_INET6, SOCK_DGRAM, 0},
    {"route", AF_NETLINK, SOCK_RAW, uapi::kNetlinkRoute},
    {"netfilter", AF_NETLINK, SOCK_RAW, uapi::kNetlinkNetfilter},
};

}  // namespace

void Pod::prepare(Ticket ticket) {
  if (state_ != State::kEmpty || ending_)
    return server_.fail(ticket, Failure::of(EEXIST, id_, "the pod is set up already"));
  if (!ns_.net) {
    auto ready = make_ready_network();
    if (!ready) return server_.fail(ticket, Failure::of(ready.error()));
    ns_.net = ready.take();
  }
  server_.reply(ticket, "{}");
}

void Pod::hand_namespace(Ticket ticket, string_view type) {
  if (state_ != State::kReady || ending_)
    return server_.fail(ticket, Failure::of(EINVAL, id_, "the pod has no namespaces: it is not set up, or ends"));
  const Fd* const held = type == "network" ? &ns_.net
                         : type == "ipc"   ? &ns_.ipc
                         : type == "uts"   ? &ns_.uts
                         : type == "user"  ? &ns_.user
                         : type == "pid"   ? &ns_.pid
                                           : nullptr;
  if (held == nullptr) return server_.fail(ticket, Failure::of(EINVAL, type, "not the type of a pod's namespace"));
  if (!*held)
    return server_.fail(ticket, Failure::of(ENOENT, type, "the pod has no namespace of this type of its own"));
  Fd copy(fcntl(held->get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return server_.fail(ticket, Failure::of(Error::last("fcntl", "namespace")));
  FdList fds;
  fds.push(static_cast<Fd&&>(copy));
  String payload;
  JsonWriter(payload).begin_object().member("fd", held->get()).end_object();
  server_.reply(ticket, payload.view(), static_cast<FdList&&>(fds));
}

void Pod::make_socket(Ticket ticket, string_view kind) {
  if (state_ != State::kReady || ending_)
    return server_.fail(ticket, Failure::of(EINVAL, id_, "the pod has no network: it is not set up, or ends"));
  const SocketKind* wanted = nullptr;
  for (const SocketKind& candidate : kSocketKinds)
    if (candidate.name == kind) wanted = &candidate;
  if (wanted == nullptr) return server_.fail(ticket, Failure::of(EINVAL, kind, "not a kind of socket"));
  Result<Fd> made = [&]() -> Result<Fd> {
    if (ns_.net) return make_socket_in(ns_.net.get(), wanted->domain, wanted->type, wanted->protocol);
    Fd of_the_host(socket(wanted->domain, wanted->type | SOCK_CLOEXEC, wanted->protocol));
    if (!of_the_host) return Error::last("socket", wanted->name);
    return of_the_host;
  }();
  if (!made) return server_.fail(ticket, Failure::of(made.error()));
  FdList fds;
  fds.push(made.take());
  server_.reply(ticket, "{}", static_cast<FdList&&>(fds));
}

}  // namespace caisson::monitor
