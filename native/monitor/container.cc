#include "monitor/container.h"

#include <signal.h>

#include "monitor/birth.h"
#include "monitor/report.h"
#include "monitor/restore.h"

namespace caisson::monitor {

namespace {

constexpr int kHookExitCode = 128;  // its program may be fine: what was not found or refused is a hook's

}  // namespace

void Container::bind() {
  task_.on_terminal.bind<&Container::terminal>(this);
  task_.on_held.bind<&Container::held>(this);
  task_.on_ready.bind<&Container::ready>(this);
  task_.on_failed.bind<&Container::failed>(this);
  task_.on_executed.bind<&Container::executed>(this);
  task_.on_exit.bind<&Container::exited_with>(this);
  task_.on_gone.bind<&Container::something_ended>(this);
  stdout_.on_end.bind<&Container::output_ended>(this);
  stderr_.on_end.bind<&Container::output_ended>(this);
  stdout_.audience().on_dropped.bind<&Container::attached_dropped>(this);
  stderr_.audience().on_dropped.bind<&Container::attached_dropped>(this);
  drain_timer_.on_expiry.bind<&Container::drain_expired>(this);
  clear_timer_.on_expiry.bind<&Container::something_ended>(this);
  oom_.on_oom.bind<&Container::oom_killed>(this);
  if (hooks_) hooks_->on_end.bind<&Container::hooks_over>(this);
  log_.set_owner(id_);
}

Status Container::create(CreateRequest&& request, const PodNamespaces& pod, Ticket ticket) {
  id_ = static_cast<String&&>(request.id);
  log_name_ = static_cast<String&&>(request.log_name);
  plan_ = static_cast<Fd&&>(request.plan);
  cgroup_parent_ = static_cast<Fd&&>(request.cgroup_parent);
  exit_record_ = static_cast<Fd&&>(request.exit_record);
  log_directory_ = static_cast<Fd&&>(request.log_directory);
  if (request.hooks) hooks_ = CAISSON_TRY(Hooks::load(static_cast<Fd&&>(request.hooks)));
  if (request.external) external_ = CAISSON_TRY(ExternalRuntime::load(static_cast<Fd&&>(request.external)));
  bind();
  const int parent = cgroup_parent_.get();
  CAISSON_TRY(request.cgroup_made ? cgroup_.adopt(parent, request.cgroup_name)
                                  : cgroup_.create(parent, request.cgroup_name));
  Pipe in;
  input_ = request.stdin_open;
  stdin_once_ = request.stdin_once;
  if (request.stdin_open) {
    auto made = make_pipe();
    if (!made) return made.error();
    in = made.take();
    stdin_ = static_cast<Fd&&>(in.write);
  }
  auto begun = begin(pod, request, in.read.get());
  if (!begun) {
    if (request.cgroup_made)
      cgroup_.forget();  // its holder lives there: who made it takes it away
    else if (auto removed = cgroup_.remove(); !removed)
      report(Level::kError, "the cgroup of a failed create stays behind", id_, &removed.error());
    return begun.error();
  }
  create_ticket_ = ticket;
  return ok();
}

Status Container::begin(const PodNamespaces& pod, const CreateRequest& create, int input) {
  auto map = PlanMap::map(plan_.get());
  if (!map) return map.error();
  if (map->view().kind() != PlanKind::kContainer) return Error(EINVAL, "container.create", "kind of the plan");
  CAISSON_TRY(cgroup_.apply(map->view()));
  auto out = CAISSON_TRY(make_pipe());
  auto err = CAISSON_TRY(make_pipe());
  CAISSON_TRY(stdout_.start(static_cast<Fd&&>(out.read), false));
  CAISSON_TRY(stderr_.start(static_cast<Fd&&>(err.read), false));
  CAISSON_TRY(oom_.start(cgroup_.fd()));
  BirthRequest request;
  request.plan = &map->view();
  request.pod = &pod;
  request.target_pid_ns = create.target_pid_ns.get();
  request.cgroup = cgroup_.fd();
  request.stdio[0] = input;
  request.stdio[1] = out.write.get();
  request.stdio[2] = err.write.get();
  request.hold = hooks_ && map->view().needs_hold();
  if (external_) return task_.begin(loop_, CAISSON_TRY(begin_external_birth(request, *external_, id_)), true);
  if (create.restore) {
    auto restoration = CAISSON_TRY(Restoration::load(create.restore));
    return task_.begin(loop_, CAISSON_TRY(begin_restore(request, *restoration)), true);
  }
  return task_.begin(loop_, CAISSON_TRY(begin_birth(request)));
}

void Container::advance_with(Event event) {
  Transition transition = advance(state_, event);
  state_ = transition.next;
  for (u32 left = transition.actions; left != 0; left &= left - 1) act(static_cast<Action>(left & (0 - left)));
}

void Container::act(Action action) {
  switch (action) {
    case kAnswerCreate: {
      created_at_ = realtime_ns();
      String text;
      JsonWriter json(text);
      json.begin_object();
      json.member("pid", task_.made_pid());
      write_identity(json);
      json.key("createdAt").value_text(created_at_);
      json.end_object();
      server_.reply(std::exchange(create_ticket_, Ticket()), text);
      break;
    }
    case kRelease:
      exit_.started_at = realtime_ns();
      release();
      break;
    case kAnswerStart: {
      plan_.reset();
      String text;
      JsonWriter json(text);
      json.begin_object();
      json.member("pid", task_.pid());
      json.key("startedAt").value_text(exit_.started_at);
      json.end_object();
      server_.reply(std::exchange(start_ticket_, Ticket()), text);
      break;
    }
    case kRefuseStart:
      exit_.started_at = 0;
      if (failure_.err == 0) failure_ = Failure::of(ESRCH, id_, "the container ended before it could start");
      server_.fail(std::exchange(start_ticket_, Ticket()), failure_);
      break;
    case kReadOomCounters:
      oom_.finish();
      exit_.oom_killed = oom_.kills() != 0;
      break;
    case kKillGroup:
      if (auto killed = kill(); !killed)
        report(Level::kError, "cannot kill a container's cgroup", id_, &killed.error());
      break;
    case kDrain:
      drain();
      break;
    case kRecordExit:
      record_exit();
      break;
    case kTellExit:
      tell_exit();
      break;
    case kClear:
      clear();
      break;
    case kRefuseCreate:
      if (failure_.err == 0) failure_ = Failure::of(ECANCELED, id_, "the container was killed before it was created");
      server_.fail(std::exchange(create_ticket_, Ticket()), failure_);
      break;
    case kForget:
      forget();
      break;
    case kRunHooks:
      run_hooks();
      break;
    case kGoOn:
      go_on();
      break;
  }
}

void Container::release() {
  if (!hooks_) {
    if (auto released = task_.release(); !released) lost_gate(released.error());
    return;
  }
  auto state = hook_state("created");
  auto released = state ? task_.release(state->get()) : Status(state.error());
  if (!released) lost_gate(released.error());
}

void Container::lost_gate(const Error& error) {
  GateReport lost;
  lost.kind = GateReport::kFailed;
  lost.step = static_cast<u32>(Step::kGate);
  lost.err = error.err;
  failed(lost);
}

void Container::ready(const GateReport& report) {
  uid_ = report.uid;
  gid_ = report.gid;
  u32 count = report.group_count < GateReport::kGroupsMax ? report.group_count : GateReport::kGroupsMax;
  groups_.clear();
  groups_.reserve(count);
  for (u32 i = 0; i < count; ++i) groups_.push(report.groups[i]);
  if (auto limited = finish_limits(); !limited) {
    failure_ = Failure::of(limited.error());
    return advance_with(Event::kFailed);
  }
  advance_with(Event::kReady);
}

Status Container::finish_limits() {
  if (!cgroup_.unfinished()) return ok();
  auto map = PlanMap::map(plan_.get());
  if (!map) return map.error();
  return cgroup_.finish(map->view());
}

void Container::failed(const GateReport& report) {
  failure_ = describe_birth(plan_.get(), report);
  if (failure_.err == 0) failure_.err = EIO;
  advance_with(Event::kFailed);
}

void Container::executed() {
  const bool hooked = hooks_ && hooks_->has(HookMoment::kStart);
  advance_with(hooked ? Event::kHooksDue : Event::kExecuted);
}

void Container::terminal(Fd& master) {
  stdout_.stop();
  stderr_.stop();
  stdin_.reset();  // the terminal is the input too
  if (auto started = stdout_.start(static_cast<Fd&&>(master), true); !started)
    report(Level::kError, "the terminal of a container cannot be read", id_, &started.error());
}

void Container::exited_with(ExitStatus status) {
  exit_.finished_at = realtime_ns();
  if (state_ == State::kHooking) {
    end_kept_ = true;
    kept_status_ = status;
    return;
  }
  ended_with(status);
}

void Container::ended_with(ExitStatus status) {
  exit_.code = status.code;
  exit_.signal = status.signal;
  if (failure_.err != 0) {
    // Killed on the way out or not, what ended it is that its program could not be executed.
    exit_.code = string_view(failure_.stage) == "hook" ? kHookExitCode : exit_code_of(failure_.err);
    exit_.signal = 0;
  }
  advance_with(Event::kProcessExit);
}

void Container::oom_killed(u64 count) { tell(FrameType::kEventOom, "count", count); }

void Container::tell(FrameType event, string_view key, u64 value) {
  String text;
  JsonWriter json(text);
  json.begin_object();
  json.member("id", id_.view());
  json.member(key, value);
  json.end_object();
  server_.broadcast(event, text);
}

void Container::write_identity(JsonWriter& json) const {
  json.member("uid", uid_);
  json.member("gid", gid_);
  json.key("groups");
  json.begin_array();
  for (u32 group : groups_) json.value(group);
  json.end_array();
}

void Container::drain() {
  drain_timer_.arm_in(loop_, kDrainTime);
  stdout_.expect_end();
  stderr_.expect_end();
  output_ended();
}

void Container::output_ended() {
  if (state_ == State::kDraining && !stdout_.open() && !stderr_.open()) advance_with(Event::kDrained);
}

// Something that cgroup.kill does not reach still holds a pipe, or does not die.
void Container::drain_expired() {
  stdout_.stop();
  stderr_.stop();
  advance_with(Event::kDrained);
}

void Container::record_exit() {
  drain_timer_.cancel();
  if (auto written = write_exit_record(exit_record_.get(), exit_); !written)
    report(Level::kError, "the exit record is lost", id_, &written.error());
  exit_record_.reset();
  log_.close();
  log_directory_.reset();
  stdin_.reset();
  plan_.reset();
}

void Container::tell_exit() {
  String text;
  JsonWriter json(text);
  describe_exit(json);
  server_.broadcast(FrameType::kEventExit, text);
}

// After the end: every process reaped, then the cgroup removed, then, where a client asked for it, forgotten.
void Container::clear() {
  if (state_ != State::kExited && state_ != State::kUndoing) return;
  bool reaped = task_.gone() && !(hooks_ && hooks_->running());
  for (const auto& exec : execs_) reaped = reaped && exec->gone();
  if (!reaped || (external_ && !forgotten_by_runtime())) return;
  for (auto& exec : execs_) exec->abandon_leaf();
  if (auto removed = cgroup_.remove(); !removed) {
    if (++clear_tries_ <= kClearTries) {
      i64 wait = clear_tries_ < 8 ? kMillisecond << (clear_tries_ - 1) : 100 * kMillisecond;
      clear_timer_.arm_in(loop_, wait);
      return;
    }
    report(Level::kError, "the cgroup of a container cannot be removed", id_, &removed.error());
    for (Ticket ticket : remove_tickets_) server_.fail(ticket, Failure::of(removed.error()));
    remove_tickets_.clear();
    if (state_ == State::kExited) return;
  }
  cgroup_parent_.reset();
  if (hooks_ && !stop_hooks_over()) return;
  if (state_ == State::kUndoing) return advance_with(Event::kCleared);
  if (removing_) forget();
}

void Container::forget() {
  state_ = State::kGone;
  for (Ticket ticket : remove_tickets_) server_.reply(ticket, "{}");
  remove_tickets_.clear();
}

}  // namespace caisson::monitor
