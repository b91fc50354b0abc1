// The control socket: accepts clients, knows which one owns the pod, carries replies and events to them.
#pragma once

#include "core/base.h"
#include "monitor/box.h"
#include "monitor/connection.h"
#include "monitor/failure.h"
#include "monitor/handover.h"
#include "monitor/loop.h"

namespace caisson::monitor {

// Who waits for an answer. The client may have gone by the time there is one: then it is dropped.
struct Ticket {
  u32 connection = 0;
  u32 request = 0;
  u16 type = 0;
  explicit operator bool() const { return connection != 0; }

  void save(HandoverWriter& out, string_view key) const;
  static Ticket restore(const JsonValue& value);
};

class Server {
 public:
  static constexpr size_t kConnectionsMax = 32;

  explicit Server(Loop& loop) : loop_(loop) {}

  Callback<Ticket, Frame&> on_request;
  // The owner's connection has ended and its lease was "bound".
  Callback<> on_lease_end;

  // Binds `control`, mode 0600, in the directory; a stale one is replaced.
  Status listen(Fd directory);
  // Removes `control` and takes no more clients.
  void close();

  void reply(Ticket to, string_view json, FdList fds = {});
  void fail(Ticket to, const Failure& failure);
  void broadcast(FrameType type, string_view json);

  void greet(Ticket by, bool owner, bool bound);
  // Whether the client of this connection is there still.
  bool has(u32 connection) const { return find(connection) != nullptr; }
  bool has_unsent() const;
  void flush();
  void sweep();  // frees closed connections

  void save(HandoverWriter& out) const;
  Status restore(const JsonValue& state);

 private:
  Status watch();
  void on_acceptable(u32 events);
  void on_retry();
  void add(Fd socket, u32 id, bool greeted);
  void request_came(Connection& from, Frame& frame);
  void connection_closed(Connection& connection);
  Connection* find(u32 id) const;

  Loop& loop_;
  Fd directory_;
  Fd socket_;
  Source source_;
  Timer retry_;
  Vec<Box<Connection>> connections_;
  u32 next_id_ = 1;
  u32 owner_ = 0;
  bool bound_ = false;
};

}  // namespace caisson::monitor
