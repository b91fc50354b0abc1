// The life of a container as a pure state machine: an event in, the next state and the actions out (law 8 of the
// design).
#pragma once

#include "core/base.h"

namespace caisson::monitor {

enum class State : u8 {
  kCreating,  // between clone3 and the stage's "ready"
  kCreated,   // waits at the gate
  kStarting,  // released, not yet seen to exec
  kRunning,
  kFailing,   // exec failed; the process is about to end
  kDraining,  // the first process has ended; the rest is killed and the output read out
  kExited,    // recorded and told
  kUndoing,   // the birth failed; nothing of it may stay
  kGone,      // forgotten
  // A program that replaces this one reads these numbers: what is new comes last.
  kHeld,     // between two parts of the creation: hooks run
  kHooking,  // the program runs, and the hooks that follow its start
  kCount,
};

enum class Event : u8 {
  kReady,        // the gate: everything but exec is done
  kFailed,       // the gate: a step failed; or a hook
  kStart,        // a client asks
  kExecuted,     // the gate closed after release
  kHooksDue,     // the creation is held, or the program executed, and there are hooks for it
  kHooksRan,     // none of them has failed
  kProcessExit,  // the first process is reaped
  kDrained,      // the output is on disk, or the time for it is over
  kCleared,      // every process is reaped and the cgroup is removed
};

enum Action : u32 {
  kAnswerCreate = 1u << 0,
  kRelease = 1u << 1,
  kAnswerStart = 1u << 2,
  kRefuseStart = 1u << 3,
  kReadOomCounters = 1u << 4,
  kKillGroup = 1u << 5,
  kDrain = 1u << 6,
  kRecordExit = 1u << 7,
  kTellExit = 1u << 8,
  kClear = 1u << 9,  // reap the rest, remove the cgroup
  kRefuseCreate = 1u << 10,
  kForget = 1u << 11,
  kRunHooks = 1u << 12,
  kGoOn = 1u << 13,  // with the creation
};

struct Transition {
  State next;
  u32 actions;  // Action, carried out from the lowest bit up
};

// An event that means nothing in a state leaves it as it is.
Transition advance(State state, Event event);

// The word of the protocol: what is shown as "running" is not over until its output is on disk.
string_view state_name(State state);

}  // namespace caisson::monitor
