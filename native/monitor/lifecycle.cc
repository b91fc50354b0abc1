#include "monitor/lifecycle.h"

namespace caisson::monitor {

Transition advance(State state, Event event) {
  constexpr u32 kEnd = kReadOomCounters | kKillGroup | kDrain;
  switch (state) {
    case State::kCreating:
      if (event == Event::kReady) return {State::kCreated, kAnswerCreate};
      if (event == Event::kHooksDue) return {State::kHeld, kRunHooks};
      if (event == Event::kFailed || event == Event::kProcessExit) return {State::kUndoing, kKillGroup | kClear};
      break;
    case State::kHeld:
      if (event == Event::kHooksRan) return {State::kCreating, kGoOn};
      if (event == Event::kFailed || event == Event::kProcessExit) return {State::kUndoing, kKillGroup | kClear};
      break;
    case State::kCreated:
      if (event == Event::kStart) return {State::kStarting, kRelease};
      if (event == Event::kFailed) return {State::kFailing, kKillGroup};
      if (event == Event::kProcessExit) return {State::kDraining, kEnd};
      break;
    case State::kStarting:
      if (event == Event::kExecuted) return {State::kRunning, kAnswerStart};
      if (event == Event::kHooksDue) return {State::kHooking, kRunHooks};
      if (event == Event::kFailed) return {State::kFailing, kRefuseStart | kKillGroup};
      if (event == Event::kProcessExit) return {State::kDraining, kRefuseStart | kEnd};
      break;
    case State::kHooking:
      if (event == Event::kHooksRan) return {State::kRunning, kAnswerStart};
      if (event == Event::kFailed) return {State::kFailing, kRefuseStart | kKillGroup};
      break;  // an end of the process is kept until the hooks are over
    case State::kRunning:
    case State::kFailing:
      if (event == Event::kProcessExit) return {State::kDraining, kEnd};
      break;
    case State::kDraining:
      if (event == Event::kDrained) return {State::kExited, kRecordExit | kTellExit | kClear};
      break;
    case State::kUndoing:
      if (event == Event::kCleared) return {State::kGone, kRefuseCreate | kForget};
      break;
    case State::kExited:
    case State::kGone:
    case State::kCount:
      break;
  }
  return {state, 0};
}

string_view state_name(State state) {
  switch (state) {
    case State::kCreating:
    case State::kHeld:
    case State::kUndoing:
      return "creating";
    case State::kCreated:
    case State::kStarting:
      return "created";
    case State::kHooking:
    case State::kRunning:
    case State::kFailing:
    case State::kDraining:
      return "running";
    case State::kExited:
    case State::kGone:
    case State::kCount:
      return "exited";
  }
  return "exited";
}

}  // namespace caisson::monitor
