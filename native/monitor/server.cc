#include "monitor/server.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "monitor/report.h"

namespace caisson::monitor {

namespace {
constexpr char kSocketName[] = "control";
}  // namespace

void Ticket::save(HandoverWriter& out, string_view key) const {
  if (connection == 0) return;
  out.json().key(key);
  out.json().begin_object();
  out.json().member("connection", connection);
  out.json().member("request", request);
  out.json().member("type", static_cast<u32>(type));
  out.json().end_object();
}

Ticket Ticket::restore(const JsonValue& value) {
  return {static_cast<u32>(value["connection"].u64_or(0)), static_cast<u32>(value["request"].u64_or(0)),
          static_cast<u16>(value["type"].u64_or(0))};
}

Status Server::listen(Fd directory) {
  directory_ = static_cast<Fd&&>(directory);
  if (unlinkat(directory_.get(), kSocketName, 0) != 0 && errno != ENOENT) return Error::last("unlinkat", kSocketName);
  socket_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_) return Error::last("socket");
  // Through the descriptor: the state directory's own path may be longer than the 108 bytes of sun_path.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory_.get(), kSocketName);
  mode_t before = umask(0177);  // 0600 from the first moment on
  int bound = bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  int err = errno;
  umask(before);
  if (bound != 0) return Error(err, "bind", kSocketName);
  if (::listen(socket_.get(), 32) != 0) return Error::last("listen", kSocketName);
  return watch();
}

Status Server::watch() {
  source_.on_events.bind<&Server::on_acceptable>(this);
  retry_.on_expiry.bind<&Server::on_retry>(this);
  return source_.watch(loop_, socket_.get(), EPOLLIN);
}

void Server::close() {
  source_.unwatch();
  retry_.cancel();
  if (unlinkat(directory_.get(), kSocketName, 0) != 0 && errno != ENOENT) {
    Error error = Error::last("unlinkat", kSocketName);
    report(Level::kWarn, "the control socket stays behind", {}, &error);
  }
  socket_.reset();
}

void Server::on_acceptable(u32) {
  Fd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    // EMFILE and its kin leave the client in the backlog, where it would wake us at once, for ever.
    Error error = Error::last("accept4");
    report(Level::kError, "cannot take a client", {}, &error);
    source_.unwatch();
    retry_.arm_in(loop_, 100 * kMillisecond);
    return;
  }
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != 0) {
    Error error(EPERM, "accept4", "uid of the client is not 0");
    report(Level::kWarn, "a client of the control socket is refused", {}, &error);
    return;
  }
  if (connections_.size() >= kConnectionsMax) {
    Error error(EUSERS, "accept4", "too many clients");
    report(Level::kWarn, "a client of the control socket is refused", {}, &error);
    return;
  }
  add(static_cast<Fd&&>(socket), next_id_, false);
  next_id_ = next_id_ == UINT32_MAX ? 1 : next_id_ + 1;
}

void Server::on_retry() {
  if (auto watched = source_.watch(loop_, socket_.get(), EPOLLIN); !watched) retry_.arm_in(loop_, kSecond);
}

void Server::add(Fd socket, u32 id, bool greeted) {
  auto connection = Box<Connection>::make(loop_, static_cast<Fd&&>(socket), id);
  connection->on_request.bind<&Server::request_came>(this);
  connection->on_close.bind<&Server::connection_closed>(this);
  connection->set_greeted(greeted);
  auto started = connection->start();
  Connection& kept = *connections_.push(static_cast<Box<Connection>&&>(connection));
  if (!started) kept.close();
}

void Server::request_came(Connection& from, Frame& frame) {
  on_request(Ticket{from.id(), frame.header.request, frame.header.type}, frame);
}

void Server::connection_closed(Connection& connection) {
  if (connection.id() != owner_) return;
  owner_ = 0;
  if (std::exchange(bound_, false)) on_lease_end();
}

void Server::greet(Ticket by, bool owner, bool bound) {
  Connection* connection = find(by.connection);
  if (connection == nullptr) return;
  connection->set_greeted(true);
  if (!owner) return;
  owner_ = by.connection;
  bound_ = bound;
}

Connection* Server::find(u32 id) const {
  for (const auto& connection : connections_)
    if (connection->id() == id && connection->alive()) return connection.get();
  return nullptr;
}

void Server::reply(Ticket to, string_view json, FdList fds) {
  Connection* connection = find(to.connection);
  if (connection == nullptr) return;
  Frame frame;
  frame.header.type = to.type;
  frame.header.request = to.request;
  frame.header.flags = kFlagReply;
  frame.payload.append(json);
  frame.fds = static_cast<FdList&&>(fds);
  connection->send(static_cast<Frame&&>(frame));
}

void Server::fail(Ticket to, const Failure& failure) {
  Connection* connection = find(to.connection);
  if (connection == nullptr) return;
  Frame frame;
  frame.header.type = to.type;
  frame.header.request = to.request;
  frame.header.flags = kFlagReply | kFlagError;
  write_failure(frame.payload, failure);
  connection->send(static_cast<Frame&&>(frame));
}

void Server::broadcast(FrameType type, string_view json) {
  for (size_t i = 0; i < connections_.size(); ++i) {
    if (!connections_[i]->alive() || !connections_[i]->greeted()) continue;
    Frame frame;
    frame.header.type = static_cast<u16>(type);
    frame.header.flags = kFlagEvent;
    frame.payload.append(json);
    connections_[i]->send(static_cast<Frame&&>(frame));
  }
}

bool Server::has_unsent() const {
  for (const auto& connection : connections_)
    if (connection->has_unsent()) return true;
  return false;
}

void Server::flush() {
  for (auto& connection : connections_) connection->flush();
}

void Server::sweep() {
  for (size_t i = connections_.size(); i-- > 0;)
    if (!connections_[i]->alive()) connections_.swap_remove(i);
}

void Server::save(HandoverWriter& out) const {
  JsonWriter& json = out.json();
  json.begin_object();
  out.fd("directory", directory_);
  out.fd("socket", socket_);
  json.member("nextId", next_id_);
  json.member("owner", owner_);
  json.member("bound", bound_);
  json.key("connections");
  json.begin_array();
  for (const auto& connection : connections_)
    if (connection->alive()) connection->save(out);
  json.end_array();
  json.end_object();
}

Status Server::restore(const JsonValue& state) {
  directory_ = inherited_fd(state["directory"]);
  socket_ = inherited_fd(state["socket"]);
  if (!directory_ || !socket_) return Error(EBADF, "reexec", "control socket");
  next_id_ = static_cast<u32>(state["nextId"].u64_or(1));
  owner_ = static_cast<u32>(state["owner"].u64_or(0));
  bound_ = state["bound"].bool_or(false);
  const JsonValue& list = state["connections"];
  for (u32 i = 0; i < list.size() && i < kConnectionsMax; ++i) {
    Fd socket = inherited_fd(list.at(i)["socket"]);
    if (socket)
      add(static_cast<Fd&&>(socket), static_cast<u32>(list.at(i)["id"].u64_or(0)),
          list.at(i)["greeted"].bool_or(false));
  }
  return watch();
}

}  // namespace caisson::monitor
