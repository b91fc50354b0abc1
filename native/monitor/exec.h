// A process executed in a running container. Either its output is captured: what ExecSync and probes ask for. Or its
// standard streams, pipes or the master of its terminal, are handed to whoever asked (SCM_RIGHTS), so that nothing of
// them passes through here; such a one is answered twice, when it has executed and, on asking, when it has ended, and
// it is killed with all that it has started when the connection that began it ends.
//
// It is born in a leaf of its own, `exec-<n>` below the container's cgroup, so that a time-out can kill all it has
// started and nothing else. Where no leaf can be made (the container has used up cgroup.max.descendants) it is born in
// the container's cgroup, and a time-out kills the process alone.
//
// Captured, the answer is given when the process has ended and its output has been read to EOF, or 1 s after: a child
// left in the background may hold the pipes for ever. Such a child lives on, its output is read and discarded, and the
// leaf is removed when it is empty.
#pragma once

#include "core/base.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/launch.h"
#include "monitor/capture.h"
#include "monitor/cgroup.h"
#include "monitor/external.h"
#include "monitor/server.h"
#include "monitor/task.h"

namespace caisson::monitor {

// Which standard streams are handed out. With a terminal that is its master, alone, whatever is asked for.
struct ExecStreams {
  bool in = false;
  bool out = false;
  bool err = false;
};

class Exec {
 public:
  static constexpr u64 kLimitMax = 16u << 20;  // bytes per stream
  static constexpr i64 kDrainTime = kSecond;
  // How long a killed process may take to die before the time-out is answered without its status.
  static constexpr i64 kKillTime = 2 * kSecond;

  Exec(Loop& loop, Server& server) : loop_(loop), server_(server), stdout_(loop), stderr_(loop) {}

  // Something has ended: the owner looks at gone() and over().
  Callback<> on_change;

  // Before start() or restore(): the container is another runtime's, and so is this. The plan is process.json then.
  void drive_by(const ExternalRuntime& runtime, string_view id) {
    runtime_ = &runtime;
    container_ = id;
  }
  // Errors leave nothing behind; the ticket is then still the caller's to answer.
  Status start(Fd plan, int init_pidfd, const Cgroup& container, u32 number, Ticket ticket, u32 timeout_ms, u64 limit);
  Status start(Fd plan, int init_pidfd, const Cgroup& container, u32 number, Ticket ticket, ExecStreams streams);

  // Of one whose streams were handed out; 0 otherwise.
  u32 number() const { return number_; }
  // Answers with the status when there is one. One client waits at a time.
  void wait(Ticket ticket);
  // SIGKILL to it and all that it has started.
  void kill();
  // Kills it if nobody is left to wait for it.
  void look_for_client();

  bool answered() const { return !ticket_ && number_ == 0; }
  const Task& task() const { return task_; }
  bool gone() const { return task_.gone(); }  // every process of ours is reaped
  bool over() const { return answered() && gone() && !leaf_; }
  // The container has ended and everything in it is killed: the leaf goes with the container's cgroup.
  void abandon_leaf();

  void save(HandoverWriter& out) const;
  void restore(const JsonValue& value, const Cgroup& container);

 private:
  void bind();
  Status begin(int plan, int init_pidfd, const Cgroup& container, const int stdio[3]);
  Status launch(Fd plan, int init_pidfd, const Cgroup& container, u32 number, Ticket ticket, const int stdio[3]);
  void ready(const GateReport& report);
  void failed(const GateReport& report);
  void executed();
  void terminal(Fd& master);
  void exited(ExitStatus status);
  void processes_gone();
  void output_ended();
  void timer_fired();
  void answer();
  void hand_out();
  void answer_wait();
  void kill_group();
  void save_streams(HandoverWriter& out) const;
  void restore_streams(const JsonValue& value);
  void remove_leaf();
  void leaf_changed(u32 events);

  Loop& loop_;
  Server& server_;
  Ticket ticket_;
  Fd plan_;  // until the exec has succeeded: to name what failed
  Task task_;
  const ExternalRuntime* runtime_ = nullptr;
  string_view container_;
  Cgroup leaf_;
  Fd leaf_events_;
  Source leaf_source_;
  Capture stdout_;
  Capture stderr_;
  Timer timer_;
  ExitStatus status_;
  bool exited_ = false;
  bool timed_out_ = false;
  u32 number_ = 0;
  u32 client_ = 0;  // the connection that began it
  bool killed_ = false;
  Ticket wait_ticket_;
  Fd streams_[3];  // our ends, until they are handed out; the first may be a terminal's master
  bool terminal_ = false;
};

}  // namespace caisson::monitor
