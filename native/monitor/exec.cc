#include "monitor/exec.h"

#include <stdio.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "monitor/birth.h"
#include "monitor/report.h"

namespace caisson::monitor {

void Exec::bind() {
  task_.on_ready.bind<&Exec::ready>(this);
  task_.on_failed.bind<&Exec::failed>(this);
  task_.on_executed.bind<&Exec::executed>(this);
  task_.on_terminal.bind<&Exec::terminal>(this);
  task_.on_exit.bind<&Exec::exited>(this);
  task_.on_gone.bind<&Exec::processes_gone>(this);
  stdout_.on_end.bind<&Exec::output_ended>(this);
  stderr_.on_end.bind<&Exec::output_ended>(this);
  timer_.on_expiry.bind<&Exec::timer_fired>(this);
  leaf_source_.on_events.bind<&Exec::leaf_changed>(this);
}

Status Exec::start(Fd plan, int init_pidfd, const Cgroup& container, u32 number, Ticket ticket, u32 timeout_ms,
                   u64 limit) {
  auto out = CAISSON_TRY(make_pipe());
  auto err = CAISSON_TRY(make_pipe());
  bind();
  CAISSON_TRY(stdout_.start(static_cast<Fd&&>(out.read), limit));
  CAISSON_TRY(stderr_.start(static_cast<Fd&&>(err.read), limit));
  const int stdio[] = {-1, out.write.get(), err.write.get()};
  CAISSON_TRY(launch(static_cast<Fd&&>(plan), init_pidfd, container, number, ticket, stdio));
  if (timeout_ms != 0) timer_.arm_in(loop_, static_cast<i64>(timeout_ms) * kMillisecond);
  return ok();
}

Status Exec::launch(Fd plan, int init_pidfd, const Cgroup& container, u32 number, Ticket ticket, const int stdio[3]) {
  char name[24];
  snprintf(name, sizeof name, "exec-%u", number);
  if (auto made = leaf_.create(container.fd(), name); !made)
    report(Level::kWarn, "an exec has no cgroup of its own; a time-out would kill its first process only", {},
           &made.error());
  auto begun = begin(plan.get(), init_pidfd, container, stdio);
  if (!begun) {
    remove_leaf();
    return begun.error();
  }
  ticket_ = ticket;
  plan_ = static_cast<Fd&&>(plan);
  return ok();
}

Status Exec::begin(int plan, int init_pidfd, const Cgroup& container, const int stdio[3]) {
  const int cgroup = leaf_ ? leaf_.fd() : container.fd();
  if (runtime_ != nullptr) {
    const ExternalExec exec{container_, leaf_.name(), cgroup, plan, stdio};
    return task_.begin(loop_, CAISSON_TRY(begin_external_exec(*runtime_, exec)), true);
  }
  auto map = PlanMap::map(plan);
  if (!map) return map.error();
  if (map->view().kind() != PlanKind::kExec) return Error(EINVAL, "exec", "kind of the plan");
  ExecRequest request;
  request.plan = &map->view();
  request.init = init_pidfd;
  request.cgroup = cgroup;
  for (int i = 0; i < 3; ++i) request.stdio[i] = stdio[i];
  return task_.begin(loop_, CAISSON_TRY(begin_exec(request)));
}

void Exec::ready(const GateReport&) {
  if (auto released = task_.release(); !released) {
    GateReport lost;
    lost.kind = GateReport::kFailed;
    lost.step = static_cast<u32>(Step::kGate);
    lost.err = released.error().err;
    failed(lost);
  }
}

void Exec::failed(const GateReport& report) {
  if (!ticket_) return;
  number_ = 0;  // nobody will ask for its end
  for (Fd& stream : streams_) stream.reset();
  server_.fail(std::exchange(ticket_, Ticket()), describe_birth(plan_.get(), report));
  plan_.reset();
  timer_.cancel();
  if (runtime_ != nullptr && leaf_) kill_group();  // what a runtime has left of it
  task_.kill();
  stdout_.close();
  stderr_.close();
  on_change();
}

void Exec::executed() {
  plan_.reset();
  if (number_ != 0) hand_out();
}

void Exec::terminal(Fd& master) {
  if (number_ != 0) {
    terminal_ = true;
    streams_[0] = static_cast<Fd&&>(master);
    streams_[1].reset();
    streams_[2].reset();
    return;
  }
  if (auto attached = stdout_.attach(static_cast<Fd&&>(master)); !attached)
    report(Level::kError, "the terminal of an exec cannot be read", {}, &attached.error());
}

void Exec::exited(ExitStatus status) {
  exited_ = true;
  status_ = status;
  if (answered()) return;
  if (number_ != 0) return answer_wait();
  if (!timed_out_) timer_.arm_in(loop_, kDrainTime);
  output_ended();
}

void Exec::output_ended() {
  if (ticket_ && exited_ && !stdout_.open() && !stderr_.open()) answer();
  on_change();
}

void Exec::timer_fired() {
  if (answered()) return;
  if (exited_ || timed_out_) {
    answer();
    on_change();
    return;
  }
  timed_out_ = true;
  timer_.arm_in(loop_, kKillTime);
  kill_group();
}

void Exec::kill_group() {
  if (leaf_) {
    auto killed = leaf_.kill();
    if (killed && runtime_ == nullptr) return;
    if (killed) return task_.kill();  // the driver is not in it
    report(Level::kWarn, "cannot kill the cgroup of an exec", {}, &killed.error());
  }
  task_.kill();
}

void Exec::answer() {
  timer_.cancel();
  plan_.reset();
  String text;
  JsonWriter json(text);
  json.begin_object();
  json.member("exitCode", exited_ ? status_.code : 137);
  json.member("signal", exited_ ? status_.signal : 9);
  json.member("timedOut", timed_out_);
  json.member("stdoutSize", stdout_.total());
  json.member("stderrSize", stderr_.total());
  json.end_object();
  FdList fds;
  fds.push(stdout_.take());
  fds.push(stderr_.take());
  server_.reply(std::exchange(ticket_, Ticket()), text, static_cast<FdList&&>(fds));
}

void Exec::processes_gone() {
  remove_leaf();
  on_change();
}

void Exec::remove_leaf() {
  if (!leaf_) return;
  auto removed = leaf_.remove();
  if (removed) {
    leaf_source_.unwatch();
    leaf_events_.reset();
    return;
  }
  if (leaf_source_.watched()) return;
  // Somebody is left in it. cgroup.events changes when the last one ends.
  if (auto events = cgroup_watch(leaf_.fd())) leaf_events_ = events.take();
  if (!leaf_events_ || !leaf_source_.watch(loop_, leaf_events_.get(), EPOLLPRI)) {
    report(Level::kWarn, "the cgroup of an exec stays until its container ends", {}, &removed.error());
    abandon_leaf();
  }
}

void Exec::leaf_changed(u32) {
  char text[256];
  if (pread(leaf_events_.get(), text, sizeof text, 0) < 0) {  // also re-arms the notification
    abandon_leaf();
    return on_change();
  }
  remove_leaf();
  on_change();
}

void Exec::abandon_leaf() {
  leaf_source_.unwatch();
  leaf_events_.reset();
  leaf_.forget();
}

void Exec::save(HandoverWriter& out) const {
  out.json().begin_object();
  ticket_.save(out, "ticket");
  out.fd("plan", plan_);
  task_.save(out, "task");
  leaf_.save(out, "leaf");
  stdout_.save(out, "stdout");
  stderr_.save(out, "stderr");
  if (timer_.armed()) out.time("deadline", timer_.deadline());
  out.json().member("exited", exited_);
  out.json().member("code", status_.code);
  out.json().member("signal", status_.signal);
  out.json().member("timedOut", timed_out_);
  if (number_ != 0) save_streams(out);
  out.json().end_object();
}

void Exec::restore(const JsonValue& value, const Cgroup& container) {
  bind();
  ticket_ = Ticket::restore(value["ticket"]);
  plan_ = inherited_fd(value["plan"]);
  leaf_.restore(value["leaf"], container.fd());
  stdout_.restore(value["stdout"]);
  stderr_.restore(value["stderr"]);
  exited_ = value["exited"].bool_or(false);
  status_ = {static_cast<i32>(value["code"].i64_or(0)), static_cast<i32>(value["signal"].i64_or(0))};
  timed_out_ = value["timedOut"].bool_or(false);
  restore_streams(value);
  task_.restore(loop_, value["task"]);
  if (i64 deadline = inherited_time(value["deadline"]); deadline != 0) timer_.arm_at(loop_, deadline);
  if (task_.gone()) remove_leaf();
}

}  // namespace caisson::monitor
