// The hooks of a container at the moments of its life (runtime-spec runtime.md "Lifecycle"): one that fails on the way
// up fails what was asked for, and the container is undone, or ends.
#include "monitor/container.h"
#include "monitor/report.h"

namespace caisson::monitor {

void Container::held() {
  if (!hooks_) return lost_gate(Error(EPROTO, "gate"));
  if (hooks_->has(HookMoment::kCreate)) return advance_with(Event::kHooksDue);
  go_on();
}

void Container::go_on() {
  auto state = hook_state("creating");
  auto released = state ? task_.go_on(state->get()) : Status(state.error());
  if (!released) lost_gate(released.error());
}

void Container::run_hooks() {
  const HookMoment moment = state_ == State::kHeld ? HookMoment::kCreate : HookMoment::kStart;
  if (auto begun = hooks_->run(loop_, moment, task_.pid()); !begun) hooks_over(Failure::of(begun.error()));
}

void Container::hooks_over(const Failure& failure) {
  if (state_ != State::kHeld && state_ != State::kHooking) return clear();
  if (failure.err != 0) {
    failure_ = Failure::of(failure.err, failure.path, failure.message);
    failure_.stage = failure.stage;
  }
  advance_with(failure.err == 0 ? Event::kHooksRan : Event::kFailed);
  if (std::exchange(end_kept_, false)) ended_with(kept_status_);
}

Result<Fd> Container::hook_state(string_view status) const { return hooks_->state(status, task_.pid()); }

// Those of a container that is undone before any hook of it ran have nothing to clean up after.
bool Container::stop_hooks_over() {
  if (hooks_->running()) return false;
  const bool due = state_ == State::kExited || hooks_->began(HookMoment::kCreate);
  if (!due || !hooks_->has(HookMoment::kStop) || hooks_->began(HookMoment::kStop)) return true;
  auto begun = hooks_->run(loop_, HookMoment::kStop, 0);
  if (!begun) report(Level::kWarn, "the hooks of a container that has ended cannot be run", id_, &begun.error());
  return !begun;
}

}  // namespace caisson::monitor
