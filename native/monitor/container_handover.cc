// What a container leaves to the program that replaces this one.
#include "monitor/container.h"

namespace caisson::monitor {

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
  json.member("stdinOnce", stdin_once_);
  json.member("input", input_);
  json.member("nextAttach", next_attach_);
  log_.save(out, "log");
  oom_.save(out, "oom");
  task_.save(out, "task");
  if (external_) out.fd("external", external_->memfd);
  if (hooks_) {
    json.key("hooks");
    hooks_->save(out);
  }
  json.member("endKept", end_kept_);
  json.member("keptCode", kept_status_.code);
  json.member("keptSignal", kept_status_.signal);
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
  write_identity(json);
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
  if (state >= static_cast<u64>(State::kCount)) return Error(EINVAL, "reexec", "state of a container");
  if (Fd hooks = inherited_fd(value["hooks"]["memfd"])) {
    hooks_ = CAISSON_TRY(Hooks::load(static_cast<Fd&&>(hooks)));
    hooks_->restore(loop_, value["hooks"]);
  }
  end_kept_ = value["endKept"].bool_or(false);
  kept_status_ = {static_cast<i32>(value["keptCode"].i64_or(0)), static_cast<i32>(value["keptSignal"].i64_or(0))};
  bind();
  state_ = static_cast<State>(state);
  plan_ = inherited_fd(value["plan"]);
  cgroup_parent_ = inherited_fd(value["cgroupParent"]);
  cgroup_.restore(value["cgroup"], cgroup_parent_.get());
  exit_record_ = inherited_fd(value["exitRecord"]);
  log_directory_ = inherited_fd(value["logDirectory"]);
  stdin_ = inherited_fd(value["stdin"]);
  stdin_once_ = value["stdinOnce"].bool_or(false);
  input_ = value["input"].bool_or(false);
  next_attach_ = static_cast<u32>(value["nextAttach"].u64_or(1));
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
  if (Fd external = inherited_fd(value["external"]))
    external_ = CAISSON_TRY(ExternalRuntime::load(static_cast<Fd&&>(external)));
  next_exec_ = static_cast<u32>(value["nextExec"].u64_or(1));
  const JsonValue& execs = value["execs"];
  for (u32 i = 0; i < execs.size() && i < kExecsMax; ++i) {
    auto exec = Box<Exec>::make(loop_, server_);
    exec->on_change.bind<&Container::something_ended>(this);
    if (external_) exec->drive_by(*external_, id_);
    exec->restore(execs.at(i), cgroup_);
    execs_.push(static_cast<Box<Exec>&&>(exec));
  }
  task_.restore(loop_, value["task"]);
  if (i64 deadline = inherited_time(value["drainDeadline"]); deadline != 0) drain_timer_.arm_at(loop_, deadline);
  clear_timer_.arm_in(loop_, 0);  // goes on with a removal that was under way
  return ok();
}

}  // namespace caisson::monitor
