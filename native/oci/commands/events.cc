#include <poll.h>
#include <signal.h>

#include "core/cgroup.h"
#include "core/cgroup_stats.h"
#include "core/deadline.h"
#include "oci/duration.h"
#include "oci/files.h"
#include "oci/listing.h"
#include "oci/state.h"

namespace caisson::oci {

namespace {

constexpr Flag kFlags[] = {
    {"interval", 0, FlagKind::kText, "time between statistics, as 5s or 1m30s (default: 5s)"},
    {"stats", 0, FlagKind::kSwitch, "print statistics once and end"},
};

Done print_stats(const State& state, int cgroup) {
  String rdt(string_view("{}"));
  if (state.rdt.present) {
    const Fd root = OCI_TRY(open_resctrl());
    rdt = OCI_TRY(rdt_stats_json(root.get(), state.rdt));
  }
  const CgroupStats stats = OCI_TRY(cgroup_stats(cgroup));
  String text;
  JsonWriter json(text);
  json.begin_object().member("type", "stats").member("id", state.id);
  write_stats(json.key("data"), stats, rdt);
  json.end_object();
  OCI_TRY(print(text.append('\n')));
  return done();
}

Done print_oom(const State& state) {
  String text;
  JsonWriter json(text);
  json.begin_object().member("type", "oom").member("id", state.id).end_object();
  OCI_TRY(print(text.append('\n')));
  return done();
}

bool is_gone(int err) { return err == ENOENT || err == ENODEV; }

// How often the memory limit could not be kept; ENOENT without the memory controller.
Result<u64> ooms(int cgroup) {
  const MemoryEvents events = CAISSON_TRY(cgroup_memory_events(cgroup));
  return events.oom_kill;
}

// Until the container has ended: statistics at every interval, and each kill for want of memory when it happens.
Done watch(const State& state, int cgroup, int interval_ms) {
  const Fd process = OCI_TRY(open_process(state));
  u64 known = 0;
  Fd memory;
  if (Result<u64> count = ooms(cgroup); count) {
    known = *count;
    memory = OCI_TRY(cgroup_watch(cgroup, "memory.events"));
  } else if (!is_gone(count.error().err)) {
    return count.error();
  }
  Deadline next(interval_ms);
  for (;;) {
    pollfd fds[] = {{process.get(), POLLIN, 0}, {memory.get(), POLLPRI, 0}};
    const int ready = poll(fds, 2, next.left_ms());
    if (ready < 0 && errno != EINTR) return Error::last("poll");
    // Looked at before the end is: the kill that ended it is told of.
    Result<u64> count = memory ? ooms(cgroup) : Result<u64>(known);
    if (count)
      for (; known < *count; ++known) OCI_TRY(print_oom(state));
    if (fds[0].revents != 0 || (!count && is_gone(count.error().err))) return done();
    if (!count) return count.error();
    if (next.left_ms() != 0) continue;
    OCI_TRY(print_stats(state, cgroup));
    next = Deadline(interval_ms);
  }
}

Outcome<int> run(const Call& call) {
  int interval_ms = 0;
  const string_view interval = call.options.text("interval", "5s");
  if (!parse_duration(interval, interval_ms)) return Fault::text_of("invalid value \"", interval, "\" for --interval");
  if (interval_ms <= 0) return Fault::text_of("duration interval must be greater than 0");
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(0)));
  const Slot slot = OCI_TRY(store.find(call.options.operand(0)));
  const State state = OCI_TRY(load_state(slot));
  if (status_of(slot, state) == ContainerStatus::kStopped)
    return Fault::text_of("container with id ", state.id, " is not running");
  const Fd cgroup = OCI_TRY(open_placement(state.placement));
  if (!cgroup) return Fault::text_of("container without a cgroup of its own: there are no statistics");
  if (call.options.on("stats"))
    OCI_TRY(print_stats(state, cgroup.get()));
  else
    OCI_TRY(watch(state, cgroup.get(), interval_ms));
  return 0;
}

}  // namespace

constexpr Command kEvents = {"events",
                             "print statistics and out-of-memory kills as lines of JSON",
                             "<container-id>",
                             1,
                             1,
                             FlagOrder::kAnywhere,
                             kFlags,
                             run};

}  // namespace caisson::oci
