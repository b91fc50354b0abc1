// A child process held by pidfd: one epoll source, reaped by waitid(P_PIDFD), never by number.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/json.h"
#include "monitor/handover.h"
#include "monitor/loop.h"

namespace caisson::monitor {

// As container tools count: the exit status, or 128 + signal.
struct ExitStatus {
  i32 code = 0;
  i32 signal = 0;
};

class Process {
 public:
  // The process has ended and is reaped.
  Callback<ExitStatus> on_exit;

  Status adopt(Loop& loop, Fd pidfd, int pid);
  // SIGKILL, and waits for the end: for a process that is still at its gate and cannot be watched.
  void end_now();
  // pidfd_send_signal(2). Error ESRCH: it has ended.
  Status signal(int number) const;

  bool alive() const { return static_cast<bool>(pidfd_); }
  // Gives the pidfd up: the process is watched by another from now on.
  Fd release();
  int pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }

  void save(HandoverWriter& out, string_view key) const;
  // True when there was one.
  bool restore(Loop& loop, const JsonValue& value);

 private:
  void on_readable(u32 events);

  Fd pidfd_;
  Source source_;
  int pid_ = 0;
};

}  // namespace caisson::monitor
