// The first process of a container or an exec, from its birth to its end: what comes over the gate is told before the
// exit, whatever order epoll sees them in. With a user namespace there are two processes, and both are reaped.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/launch.h"
#include "monitor/handover.h"
#include "monitor/loop.h"
#include "monitor/process.h"

namespace caisson::monitor {

class Task {
 public:
  Callback<Fd&> on_terminal;  // the pty master
  Callback<> on_held;         // all is mounted, and nothing pivoted to: go_on()
  Callback<const GateReport&> on_ready;
  Callback<const GateReport&> on_failed;
  Callback<> on_executed;        // the gate closed after release: exec has succeeded
  Callback<ExitStatus> on_exit;  // the process itself is reaped
  Callback<> on_gone;            // every process of the birth is reaped

  // `driven`: by a driver (external.h), which tells of the process before it is ready, and when its program runs.
  Status begin(Loop& loop, Birth&& birth, bool driven = false);
  // Lets it go on from where it is held. `state` as of release_gate().
  Status go_on(int state);
  // Lets it go on to exec.
  Status release(int state = -1);
  Status signal(int number) const { return process_.signal(number); }
  // SIGKILL to both processes, for where a cgroup cannot be killed.
  void kill();

  int pid() const { return process_.pid(); }
  // 0: it is not made yet.
  int made_pid() const { return awaits_child() ? 0 : pid(); }
  int pidfd() const { return process_.pidfd(); }
  bool alive() const { return process_.alive(); }
  bool driven() const { return driven_; }
  // Some child of the caller's may be its process, and is not known yet.
  bool awaits_child() const { return driven_ && !announced_ && static_cast<bool>(gate_); }
  bool knows(int pid) const {
    return (process_.alive() && process_.pid() == pid) || (stage_.alive() && stage_.pid() == pid);
  }
  bool gone() const { return !process_.alive() && !stage_.alive() && !held_; }

  void save(HandoverWriter& out, string_view key) const;
  void restore(Loop& loop, const JsonValue& value);

 private:
  void bind();
  void on_gate(u32 events);
  void drain_gate();
  void gate_ended();
  void let_exit();
  void stage_exited(ExitStatus status);
  void process_exited(ExitStatus status);
  void reap_untold();

  Loop* loop_ = nullptr;
  Process stage_;  // the first of two, once the second is known
  Process process_;
  Fd gate_;
  Source gate_source_;
  bool released_ = false;
  bool failed_ = false;
  bool driven_ = false;
  bool announced_ = false;
  bool executed_ = false;
  bool ready_ = false;
  bool held_ = false;  // a driver has not told yet what was before the end of its process
  ExitStatus held_status_;
};

}  // namespace caisson::monitor
