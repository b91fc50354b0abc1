// Moves one output of a container, a pipe or the master of its terminal, into the log, and to who is attached, until
// EOF.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "monitor/audience.h"
#include "monitor/handover.h"
#include "monitor/log.h"
#include "monitor/loop.h"

namespace caisson::monitor {

class Pump {
 public:
  Pump(Loop& loop, LogFile& file, string_view stream) : loop_(loop), file_(file), stream_(stream), audience_(loop) {}

  Callback<> on_end;

  // Takes a descriptor, which becomes non-blocking.
  Status start(Fd input, bool terminal);
  // The writers are dead: a terminal without a slave is at its end, instead of between two openings.
  void expect_end();
  // Gives up waiting for EOF: what waits unfinished is written.
  void stop();

  Audience& audience() { return audience_; }
  bool open() const { return static_cast<bool>(input_); }
  bool terminal() const { return terminal_; }
  const Fd& input() const { return input_; }

  void save(HandoverWriter& out, string_view key) const;
  void restore(const JsonValue& value);

 private:
  void on_readable(u32 events);
  void on_retry();
  void end();

  Loop& loop_;
  LogFile& file_;
  LogStream stream_;
  Audience audience_;
  Fd input_;
  Source source_;
  Timer retry_;
  bool terminal_ = false;
  bool ending_ = false;
};

}  // namespace caisson::monitor
