// The pod: its namespaces, its containers, its end.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/launch.h"
#include "monitor/box.h"
#include "monitor/container.h"
#include "monitor/process.h"
#include "monitor/server.h"

namespace caisson::monitor {

class Pod {
 public:
  static constexpr size_t kContainersMax = 256;
  static constexpr size_t kEndTicketsMax = 16;

  enum class State : u8 { kEmpty, kReady, kStopped };

  Pod(Loop& loop, Server& server, string_view id) : loop_(loop), server_(server), id_(id) {}

  // The pod has ended: nothing of it is left, and whoever asked has been answered.
  Callback<> on_end;

  string_view id() const { return id_; }
  // Makes a network namespace in advance, which setup() takes; one that is there is fine.
  void prepare(Ticket ticket);
  // `network`, if there is one, is a network namespace that the pod joins: its plan has the host's.
  void setup(Ticket ticket, Fd plan, Fd network);
  // The namespace of `target_id`, where the plan joins that container's, is looked up here.
  void create(Ticket ticket, CreateRequest&& request, string_view target_id);
  Container* find(string_view id) const;
  // Hands out the descriptor of a namespace of the pod.
  void hand_namespace(Ticket ticket, string_view type);
  // Hands out a socket made in the pod's network namespace.
  void make_socket(Ticket ticket, string_view kind);
  // SIGKILL to every process of every container.
  void kill(Ticket ticket);
  // Kills all, waits, drops the namespaces. The ticket may be empty.
  void end(Ticket ticket);
  bool ending() const { return ending_; }

  void list(JsonWriter& json) const;
  void exits(JsonWriter& json) const;
  void sweep();

  void save(HandoverWriter& out) const;
  Status restore(const JsonValue& value);

 private:
  void init_exited(ExitStatus status);
  void reap_strangers();

  Loop& loop_;
  Server& server_;
  String id_;
  State state_ = State::kEmpty;
  i64 created_at_ = 0;
  PodNamespaces ns_;
  Process init_;
  Vec<Box<Container>> containers_;
  bool ending_ = false;
  Vec<Ticket> end_tickets_;
};

}  // namespace caisson::monitor
