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

// Says what the file is for: the error has its name below the log directory, and that alone tells a person little.
void Container::refuse_log(Ticket ticket, const Error& error) {
  Failure failure = Failure::of(error);
  String message;
  message.append("log \"").append(log_name_).append("\": ");
  message.append(error.err == EINVAL ? "not a regular file" : strerror(error.err));
  failure.message = static_cast<String&&>(message);
  server_.fail(ticket, failure);
}

void Container::start(Ticket ticket) {
  if (state_ != State::kCreated) return refuse_state(ticket, "start");
  // Opened here and not at create: a container that is never started leaves no log, and one that is has it from its
  // first instant on.
  if (log_directory_ && !log_name_.empty()) {
    if (auto opened = log_.open(log_directory_.get(), log_name_); !opened) return refuse_log(ticket, opened.error());
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
  if (hooks_) hooks_->cancel();
  if (!cgroup_) return ok();
  if (driven()) task_.kill();  // the driver is not in it
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

void Container::reopen_log(Ticket ticket) {
  if (state_ != State::kRunning) return refuse_state(ticket, "reopen the log of");
  if (!log_directory_ || log_name_.empty())
    return server_.fail(ticket, Failure::of(EINVAL, id_, "the container has no log"));
  auto opened = log_.open(log_directory_.get(), log_name_);
  if (!opened) return refuse_log(ticket, opened.error());
  server_.reply(ticket, "{}");
}

void Container::sweep() {
  for (auto& exec : execs_) exec->look_for_client();
  for (size_t i = execs_.size(); i-- > 0;)
    if (execs_[i]->over()) execs_.swap_remove(i);
}

void Container::describe(JsonWriter& json) const {
  json.begin_object();
  json.member("id", id_.view());
  json.member("state", state_name(state_));
  json.member("pid", task_.alive() ? task_.made_pid() : 0);
  json.key("createdAt").value_text(created_at_);
  json.key("startedAt").value_text(exit_.started_at);
  json.key("finishedAt").value_text(exit_.finished_at);
  json.member("exitCode", exit_.code);
  json.member("signal", exit_.signal);
  json.member("oomKilled", exit_.oom_killed);
  write_identity(json);
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

}  // namespace caisson::monitor
