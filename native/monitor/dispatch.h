// From a frame to what it asks for: parses payloads, takes descriptors, refuses what is malformed.
#pragma once

#include "core/base.h"
#include "monitor/pod.h"
#include "monitor/server.h"

namespace caisson::monitor {

class Dispatcher {
 public:
  Dispatcher(Server& server, Pod& pod) : server_(server), pod_(pod) {}

  // A client asks for the program to be replaced by the one behind the descriptor.
  Callback<Ticket, Fd&> on_reexec;

  void handle(Ticket ticket, Frame& frame);

 private:
  void dispatch(Ticket ticket, const JsonValue& payload, FdList& fds);
  void hello(Ticket ticket, const JsonValue& payload);
  void create(Ticket ticket, const JsonValue& payload, FdList& fds);
  void streaming(Ticket ticket, const JsonValue& payload, FdList& fds, Container& container);

  Server& server_;
  Pod& pod_;
};

// 64 lower-case hexadecimal digits.
bool is_id(string_view text);

}  // namespace caisson::monitor
