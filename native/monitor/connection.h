// One client of the control socket. Its outgoing queue is bounded: a client that does not read is dropped, so that the
// thread that reaps and logs for the pod never waits for it.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "monitor/frame.h"
#include "monitor/handover.h"
#include "monitor/loop.h"

namespace caisson::monitor {

class Connection {
 public:
  static constexpr size_t kQueueFrames = 64;
  static constexpr size_t kQueueBytes = 256 * 1024;

  Connection(Loop& loop, Fd socket, u32 id) : loop_(loop), socket_(static_cast<Fd&&>(socket)), id_(id) {}

  // The connection to which a request came; the frame's descriptors are the callee's to take.
  Callback<Connection&, Frame&> on_request;
  // EOF or error; told once. The object is freed by its owner after the current batch.
  Callback<Connection&> on_close;

  Status start();
  void send(Frame&& frame);
  void close();

  u32 id() const { return id_; }
  bool alive() const { return static_cast<bool>(socket_); }
  bool has_unsent() const { return !queue_.empty(); }
  bool greeted() const { return greeted_; }
  void set_greeted(bool on) { greeted_ = on; }
  // Sends what is queued as far as the peer takes it now.
  void flush();
  void save(HandoverWriter& out) const;

 private:
  void on_events(u32 events);
  void receive();

  Loop& loop_;
  Fd socket_;
  Source source_;
  u32 id_;
  bool greeted_ = false;
  Vec<Frame> queue_;  // oldest first
  size_t queued_bytes_ = 0;
};

}  // namespace caisson::monitor
