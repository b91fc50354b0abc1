// Keeps one output stream of an exec'd process in a memfd, up to a limit; what comes beyond is counted and discarded,
// so that the process never stalls and memory stays bounded (CVE-2022-1708, CVE-2022-31030: no bound in two peers).
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "monitor/handover.h"
#include "monitor/loop.h"

namespace caisson::monitor {

class Capture {
 public:
  explicit Capture(Loop& loop) : loop_(loop) {}

  Callback<> on_end;

  Status start(Fd input, u64 limit);
  // Replaces the pipe by the master of a terminal.
  Status attach(Fd input);
  // The sealed memfd. From now on everything is discarded until EOF: a background child that still writes must not die
  // of SIGPIPE because the exec has been answered.
  Fd take();
  void close();

  bool open() const { return static_cast<bool>(input_); }
  u64 total() const { return total_; }

  void save(HandoverWriter& out, string_view key) const;
  void restore(const JsonValue& value);

 private:
  void on_readable(u32 events);
  Status watch();

  Loop& loop_;
  Fd input_;
  Fd memfd_;
  Source source_;
  u64 limit_ = 0;
  u64 kept_ = 0;
  u64 total_ = 0;
};

}  // namespace caisson::monitor
