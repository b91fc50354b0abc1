#include <unistd.h>

#include "core/cgroup.h"
#include "oci/attend.h"
#include "oci/config.h"
#include "oci/delivery.h"
#include "oci/exec_process.h"
#include "oci/files.h"
#include "oci/flags.h"
#include "oci/listing.h"
#include "oci/log.h"
#include "oci/preserve.h"
#include "oci/rootless.h"
#include "oci/unix_socket.h"

namespace caisson::oci {

namespace {

constexpr size_t kOwnFlags = sizeof kExecFlags / sizeof kExecFlags[0];

constexpr Flag kMore[] = {
    kDetachFlag,
    kPidFileFlag,
    kConsoleSocketFlag,
    kPidfdSocketFlag,
    kPreserveFdsFlag,
    {"cgroup", 0, FlagKind::kList, "a cgroup below the container's, which is there already"},
    {"ignore-paused", 0, FlagKind::kSwitch, "also in a paused container: the process waits until it is resumed"},
};

struct Flags {
  Flag all[kOwnFlags + sizeof kMore / sizeof kMore[0]];
  constexpr Flags() : all() {
    size_t i = 0;
    for (const Flag& flag : kExecFlags) all[i++] = flag;
    for (const Flag& flag : kMore) all[i++] = flag;
  }
};
constexpr Flags kFlags;

Done check_status(const Slot& slot, const State& state, bool ignore_paused) {
  switch (status_of(slot, state)) {
    case ContainerStatus::kStopped:
      return Fault::text_of("cannot exec in a stopped container");
    case ContainerStatus::kPaused:
      if (ignore_paused) return done();
      return Fault::text_of("cannot exec in a paused container (use --ignore-paused to override)");
    default:
      return done();
  }
}

Outcome<Compilation> compile(const Options& options, const Config& config) {
  String process;
  if (const string_view file = options.text("process"); !file.empty()) {
    const String text = OCI_TRY(read_path(file, kConfigMax));
    Result<JsonDocument> document = JsonDocument::parse(text);
    if (!document) return Fault::text_of(file, ": ", document.error().object);
    complete_process(process, document->root(), config.root()["process"]);
  } else {
    OCI_TRY(write_process(process, config.root()["process"], options));
  }
  String text;
  JsonWriter json(text);
  json.begin_object().member("setHome", true).key("process").raw(process);
  const JsonValue& linux = config.root()["linux"];
  for (const string_view key : {"seccomp", "memoryPolicy", "personality"})
    if (linux[key].present()) json.key(key).value(linux[key]);
  json.member("id", options.operand(0));
  json.end_object();
  return finish_compilation(compile_exec(text));
}

// [controllers:]path: there is one hierarchy, so the controllers say nothing.
Outcome<Fd> open_cgroup(const State& state, const Options& options) {
  Fd own = OCI_TRY(open_placement(state.placement));
  const Vec<string_view> given = options.list("cgroup");
  if (given.empty()) return own;
  if (!own) return Fault::text_of("--cgroup: the container has no cgroup of its own");
  if (given.size() > 1) return Fault::text_of("invalid --cgroup argument: one path, as there is one hierarchy");
  const size_t colon = given[0].find(':');
  string_view path = colon == string_view::npos ? given[0] : part(given[0], colon + 1);
  if (colon == 0) return Fault::text_of("invalid --cgroup argument: ", given[0], " (empty <controller> prefix)");
  while (path.starts_with('/')) path.remove_prefix(1);
  return OCI_TRY(cgroup_open(own.get(), String(path).c_str()));
}

class Exec {
 public:
  explicit Exec(const Call& call) : options_(call.options), detach_(options_.on("detach")) {}

  Outcome<int> run(const Globals& globals) {
    Store store = OCI_TRY(open_store(globals, options_.operand(0)));
    const Slot slot = OCI_TRY(store.find(options_.operand(0)));
    const State state = OCI_TRY(load_state(slot));
    OCI_TRY(check_status(slot, state, options_.on("ignore-paused")));
    OCI_TRY(check_preserved(0, options_.number("preserve-fds", 0)));
    const Config config = OCI_TRY(read_config(slot));
    const Compilation compiled = OCI_TRY(compile(options_, config));
    OCI_TRY(check_terminal((compiled.plan.process().flags & kProcessTerminal) != 0));
    signals_ = OCI_TRY(catch_signals());
    return deliver(state, compiled.plan, joins_mounts(config.root()));
  }

 private:
  Done check_terminal(bool terminal) {
    const string_view socket = options_.text("console-socket");
    if (detach_ && terminal && socket.empty())
      return Fault::text_of("cannot allocate tty if runc will detach without setting console socket");
    if ((!detach_ || !terminal) && !socket.empty())
      return Fault::text_of("cannot use console socket if runc will not detach or allocate tty");
    if (!socket.empty()) console_ = OCI_TRY(connect_stream(socket));
    if (const string_view to = options_.text("pidfd-socket"); !to.empty()) pidfd_socket_ = OCI_TRY(connect_stream(to));
    return done();
  }

  Outcome<int> deliver(const State& state, const PlanView& plan, bool joined_mounts) {
    const Fd init = OCI_TRY(open_process(state));
    const Fd cgroup = OCI_TRY(open_cgroup(state, options_));
    ExecRequest request;
    request.plan = &plan;
    request.init = init.get();
    request.cgroup = cgroup.get();
    for (int i = 0; i < 3; ++i) request.stdio[i] = i;
    request.preserve = static_cast<u32>(options_.number("preserve-fds", 0));
    request.rootless = effective_user() != 0;
    request.confined = in_user_namespace();
    request.joined_mounts = joined_mounts;
    Delivery delivery(&plan, state, ContainerStatus::kRunning, signals_.get());
    delivery.begin(OCI_TRY(begin_exec(request)));
    while (OCI_TRY(delivery.next()) != Delivery::Progress::kReady) {
    }
    HostTerminal terminal;
    if (console_) OCI_TRY(send_descriptor(console_.get(), "/dev/ptmx", delivery.terminal().get()));
    if (pidfd_socket_) OCI_TRY(send_descriptor(pidfd_socket_.get(), "setns", delivery.pidfd().get()));
    if (!detach_ && delivery.terminal()) OCI_TRY(terminal.open(static_cast<Fd&&>(delivery.terminal())));
    const string_view pid_file = options_.text("pid-file");
    if (!pid_file.empty()) OCI_TRY(write_pid_file(pid_file, delivery.pid()));
    Defer forget([pid_file] {
      if (!pid_file.empty()) remove_file(pid_file);
    });
    OCI_TRY(delivery.release());
    while (OCI_TRY(delivery.next()) != Delivery::Progress::kExecuted) {
    }
    delivery.leave();
    forget.dismiss();
    if (detach_) return 0;
    return attend({delivery.pid(), delivery.pidfd().get(), signals_.get(), &terminal});
  }

  const Options& options_;
  bool detach_;
  Fd signals_;
  Fd console_;
  Fd pidfd_socket_;
};

Outcome<int> run(const Call& call) {
  Outcome<int> status = Exec(call).run(call.globals);
  if (!status) return Fault::text_of("exec failed: ", status.error().text);
  return status;
}

}  // namespace

constexpr Command kExec = {"exec",
                           "run another process in a container",
                           "<container-id> <command> [command options] || -p process.json <container-id>",
                           1,
                           ~0u,
                           FlagOrder::kFirstOperand,
                           kFlags.all,
                           run,
                           255,
                           true};

}  // namespace caisson::oci
