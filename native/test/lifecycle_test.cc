// The life of a container as a table: every path that a container takes, and what never follows what.
#include "monitor/lifecycle.h"

#include "test/check.h"

using namespace caisson::monitor;
using caisson::u32;

namespace {

constexpr State kStates[] = {State::kCreating, State::kCreated,  State::kStarting, State::kRunning,
                             State::kFailing,  State::kDraining, State::kExited,   State::kUndoing,
                             State::kGone,     State::kHeld,     State::kHooking};
constexpr Event kEvents[] = {Event::kReady,    Event::kFailed,      Event::kStart,   Event::kExecuted, Event::kHooksDue,
                             Event::kHooksRan, Event::kProcessExit, Event::kDrained, Event::kCleared};

// Walks a path and gives the actions of all its steps.
u32 walk(std::initializer_list<Event> path, State end) {
  State state = State::kCreating;
  u32 actions = 0;
  for (Event event : path) {
    Transition t = advance(state, event);
    state = t.next;
    actions |= t.actions;
  }
  CHECK(state == end);
  return actions;
}

void ordinary_life() {
  u32 actions =
      walk({Event::kReady, Event::kStart, Event::kExecuted, Event::kProcessExit, Event::kDrained}, State::kExited);
  CHECK((actions & kAnswerCreate) != 0 && (actions & kAnswerStart) != 0 && (actions & kTellExit) != 0);
  CHECK((actions & (kRefuseCreate | kRefuseStart | kForget)) == 0);
}

void failures() {
  u32 actions = walk({Event::kFailed, Event::kProcessExit, Event::kCleared}, State::kGone);
  CHECK((actions & kRefuseCreate) != 0 && (actions & (kAnswerCreate | kTellExit | kRecordExit)) == 0);
  actions = walk({Event::kProcessExit, Event::kCleared}, State::kGone);
  CHECK((actions & kRefuseCreate) != 0);
  actions = walk({Event::kReady, Event::kStart, Event::kFailed, Event::kProcessExit, Event::kDrained}, State::kExited);
  CHECK((actions & kRefuseStart) != 0 && (actions & kAnswerStart) == 0 && (actions & kRecordExit) != 0);
  actions = walk({Event::kReady, Event::kStart, Event::kProcessExit, Event::kDrained}, State::kExited);
  CHECK((actions & kRefuseStart) != 0);
  actions = walk({Event::kReady, Event::kProcessExit, Event::kDrained}, State::kExited);  // killed before its start
  CHECK((actions & (kRefuseStart | kAnswerStart)) == 0 && (actions & kRecordExit) != 0);
}

void hooks() {
  u32 actions = walk({Event::kHooksDue, Event::kHooksRan, Event::kReady, Event::kStart, Event::kHooksDue,
                      Event::kHooksRan, Event::kProcessExit, Event::kDrained},
                     State::kExited);
  CHECK((actions & kRunHooks) != 0 && (actions & kGoOn) != 0 && (actions & kAnswerCreate) != 0 &&
        (actions & kAnswerStart) != 0 && (actions & (kRefuseCreate | kRefuseStart)) == 0);
  for (Event end : {Event::kFailed, Event::kProcessExit}) {
    actions = walk({Event::kHooksDue, end, Event::kCleared}, State::kGone);
    CHECK((actions & kRefuseCreate) != 0 && (actions & kKillGroup) != 0 && (actions & kGoOn) == 0);
  }
  // the answer to the start comes first, then the end of what was started
  actions = walk({Event::kReady, Event::kStart, Event::kHooksDue, Event::kProcessExit}, State::kHooking);
  CHECK((actions & (kAnswerStart | kRefuseStart | kDrain)) == 0);
  actions = walk({Event::kReady, Event::kStart, Event::kHooksDue, Event::kFailed, Event::kProcessExit, Event::kDrained},
                 State::kExited);
  CHECK((actions & kRefuseStart) != 0 && (actions & kAnswerStart) == 0 && (actions & kKillGroup) != 0);
}

void holds_everywhere() {
  for (State state : kStates) {
    CHECK(!state_name(state).empty());
    for (Event event : kEvents) {
      Transition t = advance(state, event);
      // The exit is told only once the record is written, and the record only once the output is drained.
      if ((t.actions & kTellExit) != 0) CHECK((t.actions & kRecordExit) != 0 && kRecordExit < kTellExit);
      if ((t.actions & kRecordExit) != 0) CHECK(event == Event::kDrained);
      // The OOM counters are read before anything can remove the cgroup.
      if ((t.actions & kDrain) != 0) CHECK((t.actions & kReadOomCounters) != 0 && kReadOomCounters < kKillGroup);
      if ((t.actions & kClear) != 0) CHECK((t.actions & kReadOomCounters) == 0);
      // Every process that ended is noticed.
      if (event == Event::kProcessExit && t.next == state) CHECK(state >= State::kDraining);
      if (t.next == state) CHECK(t.actions == 0);
      // Nothing comes back to life.
      if (state == State::kExited || state == State::kGone) CHECK(t.next == state);
    }
  }
}

}  // namespace

int main() {
  ordinary_life();
  failures();
  hooks();
  holds_everywhere();
  return caisson::test::done();
}
