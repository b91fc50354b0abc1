// caisson-oci: the OCI runtime command. runc's command line over the native core; docs/oci.md.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/self_exe.h"
#include "oci/command.h"
#include "oci/files.h"
#include "oci/log.h"
#include "oci/rootless.h"
#include "oci/usage.h"

namespace caisson::oci {

namespace {

constexpr const Command* kCommands[] = {
    &kCheckpoint, &kCreate, &kDelete,  &kEvents, &kExec, &kFeatures, &kKill,  &kList,  &kMounts,
    &kPause,      &kPs,     &kRestore, &kResume, &kRun,  &kSpec,     &kStart, &kState, &kUpdate,
};

constexpr Flag kGlobalFlags[] = {
    {"debug", 0, FlagKind::kSwitch, "write debug messages to the log"},
    {"log", 0, FlagKind::kText, "the file the log is appended to (default: stderr)"},
    {"log-format", 0, FlagKind::kText, "text (default) or json"},
    {"root", 0, FlagKind::kText, "the directory that holds the state of containers; it should be on a tmpfs"},
    {"criu", 0, FlagKind::kText, "the criu program that checkpoint and restore use (default: criu, from PATH)"},
    {"systemd-cgroup", 0, FlagKind::kSwitch,
     "let systemd make cgroups; linux.cgroupsPath is then slice:prefix:name, as system.slice:runc:434234"},
    {"rootless", 0, FlagKind::kText, "do without cgroups that cannot be had: true, false or auto (default)"},
    {"help", 'h', FlagKind::kSwitch, "show this help"},
    {"version", 'v', FlagKind::kSwitch, "print the version"},
};

constexpr Flag kHelp = {"help", 'h', FlagKind::kSwitch, "show this help"};

const Command* find(string_view name) {
  for (const Command* command : kCommands)
    if (command->name == name) return command;
  return nullptr;
}

int fail(Fault& fault, int status) {
  log_error(fault.text);
  return status;
}

int show(string_view text) {
  const Status printed = print(text);
  if (printed) return 0;
  Fault fault = Fault::of(printed.error());
  return fail(fault, 1);
}

int usage_error(String usage, Fault& fault) {
  String text(string_view("Incorrect Usage: "));
  text.append(fault.text).append("\n\n").append(usage);
  if (const int status = show(text); status != 0) return status;
  return fail(fault, 1);
}

String program_usage() {
  String text;
  append_usage(text, kCommands, kGlobalFlags, default_root());
  return text;
}

Outcome<Globals> read_globals(const Options& options) {
  Globals globals;
  LogFormat format = LogFormat::kText;
  const string_view wanted = options.text("log-format");
  if (wanted == "json")
    format = LogFormat::kJson;
  else if (!wanted.empty() && wanted != "text")
    return Fault::text_of("invalid log-format: ", wanted);
  OCI_TRY(open_log(options.text("log"), format, options.on("debug")));
  const string_view rootless = options.text("rootless");
  if (rootless == "true" || rootless == "1")
    globals.rootless = Rootless::kTrue;
  else if (rootless == "false" || rootless == "0")
    globals.rootless = Rootless::kFalse;
  else if (!rootless.empty() && rootless != "auto")
    return Fault::text_of("invalid value \"", rootless, "\" for --rootless: not true, false or auto");
  globals.systemd_cgroup = options.on("systemd-cgroup");
  globals.criu = options.text("criu", "criu");
  globals.root_given = options.has("root");
  globals.root = globals.root_given ? OCI_TRY(absolute_path(options.text("root"))) : default_root();
  // "", "." in "/", "/..": never what was meant
  if (globals.root.view() == "/") return Fault::text_of("Option --root argument should not be set to /");
  return globals;
}

int call(const Command& command, const Globals& globals, span<const char* const> args) {
  Vec<Flag> flags;
  flags.push(kHelp);
  for (const Flag& flag : command.flags) flags.push(flag);
  Outcome<Options> options = Options::parse(args, {flags.data(), flags.size()}, command.order);
  String usage;
  append_usage(usage, command);
  if (!options) return usage_error(static_cast<String&&>(usage), options.error());
  if (options->on("help")) {
    return show(usage);
  }
  const size_t count = options->operands();
  if (count < command.least || count > command.most) {
    Fault fault = Fault::text_of("caisson-oci: \"", command.name, "\" requires ",
                                 command.least == command.most ? "exactly "
                                 : count < command.least       ? "a minimum of "
                                                               : "a maximum of ");
    fault.text.append_u64(count < command.least ? command.least : command.most).append(" argument(s)");
    return usage_error(static_cast<String&&>(usage), fault);
  }
  Outcome<int> status = command.run({globals, *options});
  return status ? *status : fail(status.error(), command.failure);
}

// A process that is born later takes 0 to 2 as they are: a closed one would be the next thing that is opened.
void open_standard_descriptors() {
  pollfd fds[3] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
  if (poll(fds, 3, 0) <= 0) return;
  for (const pollfd& each : fds)
    if ((each.revents & POLLNVAL) != 0 && open("/dev/null", O_RDWR) != each.fd) _exit(1);
}

int run(span<const char* const> args, char** argv, char** envp) {
  // The dearest command per call is the one that does nothing.
  if (args.size() == 1 && string_view(args[0]) == kFeatures.name) {
    const Options none;
    Outcome<int> status = kFeatures.run({Globals(), none});
    return status ? *status : fail(status.error(), 1);
  }
  Outcome<Options> options = Options::parse(args, kGlobalFlags, FlagOrder::kFirstOperand);
  const Command* command = options ? find(options->operand(0)) : nullptr;
  const bool births = command != nullptr && command->gives_birth && !options->on("version") && !options->on("help");
  const Status protected_now = births ? protect_executable(argv, envp) : ok();
  open_standard_descriptors();
  if (!options) return usage_error(program_usage(), options.error());
  if (options->on("version") || options->on("help") || options->operands() == 0 || options->operand(0) == "help") {
    String text;
    if (options->on("version"))
      append_version(text);
    else if (const Command* topic = find(options->operand(1)); topic != nullptr)
      append_usage(text, *topic);
    else
      text = program_usage();
    return show(text);
  }
  if (births) {
    if (!protected_now) {
      Fault fault = Fault::of(protected_now.error());
      return fail(fault, command->failure);
    }
    prctl(PR_SET_NAME, "caisson-oci");  // else the number of the descriptor that was executed
  }
  Outcome<Globals> globals = read_globals(*options);
  if (!globals) return fail(globals.error(), 1);
  if (command == nullptr) {
    Fault fault = Fault::text_of("No help topic for '", options->operand(0), "'");
    return fail(fault, 3);
  }
  return call(*command, *globals, args.subspan(args.size() - options->operands() + 1));
}

}  // namespace

}  // namespace caisson::oci

int main(int argc, char** argv, char** envp) {
  const size_t given = argc > 0 ? 1 : 0;
  return caisson::oci::run({argv + given, static_cast<size_t>(argc) - given}, argv, envp);
}
