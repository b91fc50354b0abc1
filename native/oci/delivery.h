// A birth followed over its gate, by a caller that blocks: from clone to exec, or to the point where another command
// goes on.
#pragma once

#include "core/launch.h"
#include "oci/outcome.h"
#include "oci/state.h"

namespace caisson::oci {

// All signals blocked, to be read from the descriptor: from here on nothing ends this process half-way but SIGKILL.
Result<Fd> catch_signals();

class Delivery {
 public:
  enum class Progress {
    kHeld,      // everything is mounted: release() goes on
    kReady,     // all but the program is there: release() goes on
    kExecuted,  // the program runs
  };

  // `signals` as of catch_signals(), or -1: SIGINT, SIGTERM, SIGHUP and SIGQUIT end the wait with a fault.
  // `status` is what a seccomp agent hears of the container. `plan` null: no filter of it has a
  // listener, and failure() is for the caller to describe.
  Delivery(const PlanView* plan, const State& state, ContainerStatus status, int signals)
      : plan_(plan), state_(state), status_(status), signals_(signals) {}
  // Nothing that was born here outlives a caller that gave up.
  ~Delivery();
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  // What begin_birth() and begin_exec() gave.
  void begin(Birth birth);
  // The connection to a process that another command gave birth to.
  void join(Fd gate);

  Outcome<Progress> next();
  // `hook_state` as of release_gate(); "": none.
  Done release(string_view hook_state = {});
  // From now on the process is on its own.
  void leave() { child_ = false; }

  // What ended it, where `plan` was null; kind 0: nothing did.
  const GateReport& failure() const { return failure_; }
  int pid() const { return pid_; }
  Fd& pidfd() { return pidfd_; }
  Fd& terminal() { return terminal_; }

 private:
  Outcome<GateReport> wait();
  Done send_listener(int listener);
  Fault failed(const GateReport& report);

  const PlanView* plan_;
  const State& state_;
  ContainerStatus status_;
  int signals_;
  bool child_ = false;     // ours to end and to reap
  bool released_ = false;  // since the last report
  bool ready_ = false;
  int pid_ = 0;
  Fd pidfd_;
  Fd gate_;
  Fd terminal_;
  Fd agent_;  // of the seccomp listener, connected before it exists
  GateReport failure_;
};

}  // namespace caisson::oci
