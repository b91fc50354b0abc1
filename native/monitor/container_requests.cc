// What clients ask of a container, and what they are told about it.
#include <signal.h>

#include "monitor/container.h"
#include "monitor/report.h"

namespace caisson::monitor {

void Container::refuse_state(Ticket ticket, string_view what) {
  String message;
  message.append("cannot ")
      .append(what)
      .append(" container ")
      .append(id_)
      .append(": it is ")
      .append(state_ == State::kFailing || state_ == State::kDraining ? "ending" : state_name(state_));
  server_.fail(ticket, Failure::of(EINVAL, id_, message));
}

void Container::start(Ticket ticket) {
  if (state_ != State::kCreated) return refuse_state(ticket, "start");
  // Opened here and not at create: a container that is never started leaves no log, and one that is has it from its
  // first instant on.
  if (log_directory_ && !log_name_.empty()) {
    if (auto opened = log_.open(log_directory_.get(), log_name_); !opened)
      return server_.fail(ticket, Failure::of(opened.error()));
  }
  start_ticket_ = ticket;
  advance_with(Event::kStart);
}

void Container::signal(Ticket ticket, int number) {
  if (number < 1 || number > 64) return server_.fail(ticket, Failure::of(EINVAL, id_, "not a signal number"));
  auto sent = task_.signal(number);
  if (!sent && sent.error().err == ESRCH) return refuse_state(ticket, "signal");
  if (!sent) return server_.fail(ticket, Failure::of(sent.error()));
  server_.reply(ticket, "{}");
}

Status Container::kill() {
  if (!cgroup_) return ok();
  auto killed = cgroup_.kill();
  if (killed) return killed;
  task_.kill();  // at least its first process
  return killed;
}

void Container::remove(Ticket ticket) {
  if (remove_tickets_.size() >= kRemovalsMax)
    return server_.fail(ticket, Failure::of(EBUSY, id_, "too many removals of this container wait already"));
  remove_tickets_.push(ticket);
  discard();
}

void Container::discard() {
  removing_ = true;
  if (state_ == State::kExited || state_ == State::kUndoing) {
    clear_tries_ = 0;
    if (auto killed = kill(); !killed) report(Level::kError, "cannot kill a container's cgroup", id_, &killed.error());
    return clear();
  }
  act(kKillGroup);
}

void Container::exec(Fd plan, Ticket ticket, u32 timeout_ms, u64 limit) {
  if (state_ != State::kRunning) return refuse_state(ticket, "exec in");
  if (limit > Exec::kLimitMax)
    return server_.fail(ticket, Failure::of(E2BIG, id_, "the limit of an exec's output is at most 16 MiB per stream"));
  if (execs_.size() >= kExecsMax)
    return server_.fail(ticket, Failure::of(EAGAIN, id_, "too many processes are executed in this container at once"));
  auto exec = Box<Exec>::make(loop_, server_);
  exec->on_change.bind<&Container::something_ended>(this);
  auto started = exec->start(static_cast<Fd&&>(plan), task_.pidfd(), cgroup_, next_exec_++, ticket, timeout_ms, limit);
  if (!started) return server_.fail(ticket, Failure::of(started.error()));
  execs_.push(static_cast<Box<Exec>&&>(exec));
}

void Container::reopen_log(Ticket ticket) {
  if (state_ != State::kRunning) return refuse_state(ticket, "reopen the log of");
  if (!log_directory_ || log_name_.empty())
    return server_.fail(ticket, Failure::of(EINVAL, id_, "the container has no log"));
  auto opened = log_.open(log_directory_.get(), log_name_);
  if (!opened) return server_.fail(ticket, Failure::of(opened.error()));
  server_.reply(ticket, "{}");
}

void Container::sweep() {
  for (size_t i = execs_.size(); i-- > 0;)
    if (execs_[i]->over()) execs_.swap_remove(i);
}

void Container::describe(JsonWriter& json) const {
  json.begin_object();
  json.member("id", id_.view());
  json.member("state", state_name(state_));
  json.member("pid", task_.alive() ? task_.pid() : 0);
  json.key("createdAt").value_text(created_at_);
  json.key("startedAt").value_text(exit_.started_at);
  json.key("finishedAt").value_text(exit_.finished_at);
  json.member("exitCode", exit_.code);
  json.member("signal", exit_.signal);
  json.member("oomKilled", exit_.oom_killed);
  json.member("uid", uid_);
  json.member("gid", gid_);
  json.key("groups");
  json.begin_array();
  for (u32 group : groups_) json.value(group);
  json.end_array();
  json.member("lostLogRecords", log_.lost_records());
  json.end_object();
}

void Container::describe_exit(JsonWriter& json) const {
  json.begin_object();
  json.member("id", id_.view());
  json.member("exitCode", exit_.code);
  json.member("signal", exit_.signal);
  json.member("oomKilled", exit_.oom_killed);
  json.key("startedAt").value_text(exit_.started_at);
  json.key("finishedAt").value_text(exit_.finished_at);
  json.end_object();
}

void Container::save(HandoverWriter& out) const {
  JsonWriter& json = out.json();
  json.begin_object();
  json.member("id", id_.view());
  json.member("logName", log_name_.view());
  json.member("state", static_cast<u32>(state_));
  out.fd("plan", plan_);
  out.fd("cgroupParent", cgroup_parent_);
  cgroup_.save(out, "cgroup");
  out.fd("exitRecord", exit_record_);
  out.fd("logDirectory", log_directory_);
  out.fd("stdin", stdin_);
  log_.save(out, "log");
  oom_.save(out, "oom");
  task_.save(out, "task");
  stdout_.save(out, "stdout");
  stderr_.save(out, "stderr");
  if (drain_timer_.armed()) out.time("drainDeadline", drain_timer_.deadline());
  create_ticket_.save(out, "createTicket");
  start_ticket_.save(out, "startTicket");
  json.key("removeTickets");
  json.begin_array();
  for (const Ticket& ticket : remove_tickets_) {
    json.begin_object();
    ticket.save(out, "ticket");
    json.end_object();
  }
  json.end_array();
  json.member("removing", removing_);
  json.member("failure", failure_.err);
  json.member("failureMessage", failure_.message.view());
  out.time("createdAt", created_at_);
  out.time("startedAt", exit_.started_at);
  out.time("finishedAt", exit_.finished_at);
  json.member("exitCode", exit_.code);
  json.member("signal", exit_.signal);
  json.member("oomKilled", exit_.oom_killed);
  json.member("uid", uid_);
  json.member("gid", gid_);
  json.key("groups");
  json.begin_array();
  for (u32 group : groups_) json.value(group);
  json.end_array();
  json.member("nextExec", next_exec_);
  json.key("execs");
  json.begin_array();
  for (const auto& exec : execs_) exec->save(out);
  json.end_array();
  json.end_object();
}

Status Container::restore(const JsonValue& value) {
  id_ = String(value["id"].string_or(""));
  log_name_ = String(value["logName"].string_or(""));
  u64 state = value["state"].u64_or(~u64{0});
  if (state > static_cast<u64>(State::kGone)) return Error(EINVAL, "reexec", "state of a container");
  bind();
  state_ = static_cast<State>(state);
  plan_ = inherited_fd(value["plan"]);
  cgroup_parent_ = inherited_fd(value["cgroupParent"]);
  cgroup_.restore(value["cgroup"], cgroup_parent_.get());
  exit_record_ = inherited_fd(value["exitRecord"]);
  log_directory_ = inherited_fd(value["logDirectory"]);
  stdin_ = inherited_fd(value["stdin"]);
  log_.restore(value["log"]);
  oom_.restore(value["oom"]);
  stdout_.restore(value["stdout"]);
  stderr_.restore(value["stderr"]);
  create_ticket_ = Ticket::restore(value["createTicket"]);
  start_ticket_ = Ticket::restore(value["startTicket"]);
  const JsonValue& removals = value["removeTickets"];
  for (u32 i = 0; i < removals.size() && i < kRemovalsMax; ++i)
    remove_tickets_.push(Ticket::restore(removals.at(i)["ticket"]));
  removing_ = value["removing"].bool_or(false);
  failure_.err = static_cast<int>(value["failure"].i64_or(0));
  failure_.message.append(value["failureMessage"].string_or(""));
  created_at_ = inherited_time(value["createdAt"]);
  exit_.started_at = inherited_time(value["startedAt"]);
  exit_.finished_at = inherited_time(value["finishedAt"]);
  exit_.code = static_cast<i32>(value["exitCode"].i64_or(0));
  exit_.signal = static_cast<i32>(value["signal"].i64_or(0));
  exit_.oom_killed = value["oomKilled"].bool_or(false);
  uid_ = static_cast<u32>(value["uid"].u64_or(0));
  gid_ = static_cast<u32>(value["gid"].u64_or(0));
  const JsonValue& groups = value["groups"];
  for (u32 i = 0; i < groups.size() && i < GateReport::kGroupsMax; ++i)
    groups_.push(static_cast<u32>(groups.at(i).u64_or(0)));
  next_exec_ = static_cast<u32>(value["nextExec"].u64_or(1));
  const JsonValue& execs = value["execs"];
  for (u32 i = 0; i < execs.size() && i < kExecsMax; ++i) {
    auto exec = Box<Exec>::make(loop_, server_);
    exec->on_change.bind<&Container::something_ended>(this);
    exec->restore(execs.at(i), cgroup_);
    execs_.push(static_cast<Box<Exec>&&>(exec));
  }
  task_.restore(loop_, value["task"]);
  if (i64 deadline = inherited_time(value["drainDeadline"]); deadline != 0) drain_timer_.arm_at(loop_, deadline);
  clear_timer_.arm_in(loop_, 0);  // goes on with a removal that was under way
  return ok();
}

}  // namespace caisson::monitor
