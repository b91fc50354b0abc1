#include <signal.h>

#include "core/cgroup.h"
#include "core/signals.h"
#include "core/spawn.h"
#include "oci/listing.h"
#include "oci/log.h"
#include "oci/state.h"

namespace caisson::oci {

namespace {

constexpr Flag kFlags[] = {{"all", 'a', FlagKind::kSwitch, "signal every process of the container"}};

bool is_gone(int err) { return err == ESRCH || err == ENOENT || err == ENODEV; }

Outcome<int> parse(string_view text) {
  if (text == "0") return 0;  // asks only whether it is there
  Result<int> number = parse_signal(text);
  if (!number) return Fault::text_of("unknown signal \"", text, "\"");
  return *number;
}

// Every process of the container's cgroup. A cgroup of systemd's goes with its last process.
Done signal_all(const State& state, int number) {
  Result<Fd> cgroup = open_placement(state.placement);
  if (!cgroup && is_gone(cgroup.error().err)) return done();
  if (!cgroup) return cgroup.error();
  Status sent = cgroup_signal(cgroup->get(), number);
  if (!sent && !is_gone(sent.error().err)) return sent.error();
  return done();
}

// No lock: a container can be killed whatever another command waits for.
Outcome<int> run(const Call& call) {
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(0)));
  const Slot slot = OCI_TRY(store.find(call.options.operand(0)));
  const int number = OCI_TRY(parse(call.options.operands() > 1 ? call.options.operand(1) : "SIGTERM"));
  const State state = OCI_TRY(load_state(slot));
  const bool all = call.options.on("all");
  const bool has_cgroup = state.placement.driver != CgroupDriver::kNone;
  Result<Fd> process = open_process(state);
  if (!process && !is_gone(process.error().err)) return process.error();
  if (!process && !all) return Fault::text_of("container not running");
  // Without a PID namespace of its own the end of the first process is not that of the others.
  if (number != 0 && has_cgroup && (all || (number == SIGKILL && state.shares_pids))) {
    OCI_TRY(signal_all(state, number));
    return 0;
  }
  if (!process || number == 0) return 0;
  // Rootless without delegation. As runc since 1.2: the first process is signalled whatever becomes of the others.
  if (all && (number != SIGKILL || state.shares_pids))
    log(Level::kWarning, "container without a cgroup of its own: only its first process is signalled");
  const Status sent = send_signal(process->get(), number);
  if (!sent && is_gone(sent.error().err)) return Fault::text_of("container not running");
  if (!sent) return sent.error();
  return 0;
}

}  // namespace

constexpr Command kKill = {"kill",
                           "send a signal (default: SIGTERM) to a container's first process",
                           "<container-id> [signal]",
                           1,
                           2,
                           FlagOrder::kAnywhere,
                           kFlags,
                           run};

}  // namespace caisson::oci
