// One container: its process, cgroup, output and log, moved along by lifecycle.h.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/launch.h"
#include "monitor/box.h"
#include "monitor/cgroup.h"
#include "monitor/exec.h"
#include "monitor/exit_record.h"
#include "monitor/external.h"
#include "monitor/hooks.h"
#include "monitor/lifecycle.h"
#include "monitor/log.h"
#include "monitor/oom.h"
#include "monitor/pump.h"
#include "monitor/server.h"
#include "monitor/task.h"

namespace caisson::monitor {

struct CreateRequest {
  String id;
  String cgroup_name;
  bool cgroup_made = false;  // by systemd, around a process that holds it
  String log_name;           // empty: output is read and discarded
  bool stdin_open = false;
  bool stdin_once = false;
  Fd plan;
  Fd cgroup_parent;
  Fd exit_record;
  Fd log_directory;
  Fd external;       // with it another runtime makes the container: what ExternalRuntime reads
  Fd hooks;          // with hooks that the monitor runs: what Hooks reads
  Fd restore;        // with it the container is made of a checkpoint: what Restoration reads
  Fd target_pid_ns;  // of the container whose PID namespace this one joins
};

class Container {
 public:
  static constexpr size_t kExecsMax = 256;
  static constexpr size_t kRemovalsMax = 16;
  static constexpr i64 kDrainTime = kSecond;
  // Retries of the cgroup's removal, 1 ms growing to 100 ms apart: about 5 s, after which removal is reported as failed
  // and tried again when it is asked for.
  static constexpr u32 kClearTries = 56;

  Container(Loop& loop, Server& server)
      : loop_(loop), server_(server), oom_(loop), stdout_(loop, log_, "stdout"), stderr_(loop, log_, "stderr") {}

  // Begins the birth; the ticket is answered when the container is created or has failed. On a returned error nothing
  // is left and the ticket is the caller's to answer.
  Status create(CreateRequest&& request, const PodNamespaces& pod, Ticket ticket);
  void start(Ticket ticket);
  void signal(Ticket ticket, int number);
  Status kill();
  // Kills, waits, removes the cgroup, forgets; then answers.
  void remove(Ticket ticket);
  // Removal without anybody to answer: the pod ends.
  void discard();
  void exec(Fd plan, Ticket ticket, u32 timeout_ms, u64 limit);
  // Its standard streams are handed out; see exec.h.
  void exec_stream(Fd plan, Ticket ticket, ExecStreams streams);
  // Of such a one, by its number; nullptr: there is none.
  Exec* find_exec(u32 number) const;
  // Hands out what the container writes from now on, and, where it has one, its standard input.
  void attach(Ticket ticket, ExecStreams streams);
  void resize(Ticket ticket, u16 rows, u16 columns);
  void reopen_log(Ticket ticket);

  string_view id() const { return id_; }
  State state() const { return state_; }
  bool gone() const { return state_ == State::kGone; }
  bool exited() const { return state_ == State::kExited; }
  const Task& task() const { return task_; }
  // Programs that are called for it leave children to the monitor.
  bool driven() const { return external_ || task_.driven(); }
  // A child of the monitor that is none of this container's. False where that cannot be told yet.
  bool is_stranger(int pid) const;

  void describe(JsonWriter& json) const;       // an entry of "list"
  void describe_exit(JsonWriter& json) const;  // an entry of "exits", the event "exit"
  void sweep();                                // frees execs that are over

  void save(HandoverWriter& out) const;
  Status restore(const JsonValue& value);

 private:
  void bind();
  Status begin(const PodNamespaces& pod, const CreateRequest& request, int input);
  void advance_with(Event event);
  void act(Action action);
  void release();
  void lost_gate(const Error& error);
  void refuse_state(Ticket ticket, string_view what);
  void refuse_log(Ticket ticket, const Error& error);
  Status begin_exec(Fd plan, Ticket ticket, u32 timeout_ms, u64 limit, const ExecStreams* streams);
  Result<Fd> attach_input();
  void attached_dropped(u32 number);
  void write_identity(JsonWriter& json) const;

  void ready(const GateReport& report);
  Status finish_limits();
  void failed(const GateReport& report);
  void executed();
  void terminal(Fd& master);
  void exited_with(ExitStatus status);
  void ended_with(ExitStatus status);
  void something_ended() { clear(); }
  void output_ended();
  void drain_expired();
  void oom_killed(u64 count);

  void drain();
  void record_exit();
  void tell_exit();
  void tell(FrameType event, string_view key, u64 value);
  void clear();
  bool forgotten_by_runtime();
  void runtime_forgot(ExitStatus status);
  void forget();

  // container_hooks.cc
  void held();
  void run_hooks();
  void go_on();
  void hooks_over(const Failure& failure);
  Result<Fd> hook_state(string_view status) const;
  bool stop_hooks_over();

  Loop& loop_;
  Server& server_;
  String id_;
  String log_name_;
  State state_ = State::kCreating;
  Fd plan_;           // until exec has succeeded: to name what failed
  Fd cgroup_parent_;  // before cgroup_, which removes itself from it
  Cgroup cgroup_;
  Fd exit_record_;
  Fd log_directory_;
  Fd stdin_;                 // write end, held so that a container with an open stdin waits instead of seeing EOF
  bool stdin_once_ = false;  // the first client to attach takes it, and its end is the end of the input
  bool input_ = false;       // there is, or was, a standard input to attach to
  LogFile log_;
  OomWatch oom_;
  Task task_;
  Box<ExternalRuntime> external_;
  Box<Hooks> hooks_;
  bool end_kept_ = false;  // the process has ended while hooks ran
  ExitStatus kept_status_;
  Process cleaner_;  // its `delete`
  bool cleaning_ = false;
  Pump stdout_;
  Pump stderr_;
  Timer drain_timer_;
  Timer clear_timer_;
  u32 clear_tries_ = 0;
  Vec<Box<Exec>> execs_;
  u32 next_exec_ = 1;
  u32 next_attach_ = 1;

  Ticket create_ticket_;
  Ticket start_ticket_;
  Vec<Ticket> remove_tickets_;
  bool removing_ = false;
  Failure failure_;  // why the birth failed; err 0: it did not

  i64 created_at_ = 0;
  Exit exit_;
  u32 uid_ = 0;
  u32 gid_ = 0;
  Vec<u32> groups_;
};

}  // namespace caisson::monitor
