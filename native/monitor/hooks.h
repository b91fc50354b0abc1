// The OCI hooks of a container that are the monitor's to run: prestart, createRuntime, poststart and poststop
// (runtime-spec runtime.md "Lifecycle"). A child of the monitor runs those of one moment, one after the other, so that
// the loop waits for none of them; it kills the group of the hook that runs when the monitor lets go of it or dies.
#pragma once

#include "core/fd.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"
#include "monitor/box.h"
#include "monitor/failure.h"
#include "monitor/handover.h"
#include "monitor/process.h"

namespace caisson::monitor {

enum class HookMoment : u8 {
  kCreate,  // prestart, then createRuntime: "creating"
  kStart,   // poststart: "running"
  kStop,    // poststop: "stopped"
  kCount,
};

// Hooks are text and not a plan, which only the build that made it reads: a container outlives that.
class Hooks {
 public:
  static constexpr size_t kTextMax = 4u << 20;

  // The hooks of a moment are over; err 0: none has failed. Those of kStop are reported, and tell nothing here.
  Callback<const Failure&> on_end;

  // `memfd`, sealed: {"ociVersion","id","bundle","annotations","hooks"}, JSON of the service (src/pod/hook-bundle.ts).
  // Errors: EINVAL names the member.
  static Result<Box<Hooks>> load(Fd memfd);

  bool has(HookMoment moment) const { return (moments_ & 1u << static_cast<u32>(moment)) != 0; }
  Status run(Loop& loop, HookMoment moment, int pid);
  bool running() const { return process_.alive(); }
  bool knows(int pid) const { return process_.alive() && process_.pid() == pid; }
  // Whether those of the moment have begun, now or before.
  bool began(HookMoment moment) const { return (began_ & 1u << static_cast<u32>(moment)) != 0; }
  // Kills what runs, but for those of kStop, which clean up after the container. on_end() follows.
  void cancel();
  // The state of the container as JSON, for hooks that its own process runs.
  Result<Fd> state(string_view status, int pid) const;

  void save(HandoverWriter& out) const;  // an object
  void restore(Loop& loop, const JsonValue& value);

 private:
  void ended(ExitStatus status);

  String id_;
  Fd memfd_;
  u32 moments_ = 0;
  u32 began_ = 0;
  HookMoment moment_ = HookMoment::kCreate;
  bool cancelled_ = false;
  Process process_;
  Fd gate_;  // to the child; its end tells the child to end
};

}  // namespace caisson::monitor
