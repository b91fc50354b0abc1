#include "monitor/external_driver.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace caisson::monitor {

namespace {

const Driven& driven_of(const Stage& s) { return *static_cast<const Driven*>(s.driven); }

// Nothing of a container whose creation has failed stays in the runtime's records.
[[noreturn]] void give_up(Stage& s, const RuntimeCommand& failed, bool created) {
  if (created) {
    RuntimeCommand undo(driven_of(s), "delete");
    undo.add("--force");
    undo.run();  // what the caller hears of is the failure that led to it
  }
  fail_with(s, DrivenBy::kRuntime, failed.error(), failed.message());
}

[[noreturn]] void refuse_pid(Stage& s, const char* why, bool created) {
  const Driven& driven = driven_of(s);
  if (created) {
    RuntimeCommand undo(driven, "delete");
    undo.add("--force");
    undo.run();
  }
  String message("runtime handler \"");
  message.append(driven.runtime.name).append("\": ").append(driven.runtime.path).append(": ").append(why);
  fail_with(s, DrivenBy::kRuntime, EPROTO, message);
}

// A relative name: 108 bytes are soon gone.
int listen_for_terminal(Stage& s) {
  s.at(Step::kTerminal);
  int listener = s.check(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, "tty", 4);
  s.check(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  s.check(listen(listener, 1));
  return listener;
}

void announce(Stage& s, bool created) {
  if (const char* why = announce_child(s, driven_of(s).runtime.cgroup)) refuse_pid(s, why, created);
}

void announce_terminal(Stage& s, const RuntimeCommand& command, bool created) {
  if (!command.master) refuse_pid(s, "has handed over no terminal", created);
  GateReport terminal;
  terminal.kind = GateReport::kTerminal;
  s.report(terminal, command.master.get());
}

// As a stage begins, without a plan.
void begin(Stage& s) {
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  take_stdio(s);
  s.check(sys::close_range(3, static_cast<unsigned>(s.gate) - 1));
  s.check(sys::close_range(static_cast<unsigned>(s.gate) + 1, ~0u));
  default_signals(s);
  make_view(s, driven_of(s).runtime.bundle, driven_of(s).runtime.cgroup_root);
  s.check(mkdir("rootfs", 0755));  // runc changes to it, as its records say, and looks at nothing there
}

String log_of(const ExternalRuntime& runtime) {
  String path(runtime.bundle.view());
  path.append("/log");
  return path;
}

String subject_of(const ExternalRuntime& runtime) {
  String text("runtime handler \"");
  text.append(runtime.name).append("\"");
  return text;
}

}  // namespace

RuntimeCommand::RuntimeCommand(const Driven& driven, const char* verb)
    : Command(subject_of(driven.runtime), driven.runtime.path, verb, log_of(driven.runtime), driven.runtime.timeout_ms),
      id_(driven.id) {
  for (const String& option : driven.runtime.options) add(option.view());
  add("--root");
  add(driven.runtime.root.view());
  add("--log");
  add(log_of(driven.runtime).view());
  for (const char* each : {"--log-format", "json", verb}) add(each);
}

bool RuntimeCommand::run() {
  add(id_);
  return Command::run();
}

void drive_create(Stage& s) {
  const Driven& driven = driven_of(s);
  default_signals(s);
  make_bundle(s, driven);
  RuntimeCommand create(driven, "create");
  create.add("--bundle");
  create.add(driven.runtime.bundle.view());
  create.add("--pid-file");
  create.add("pid");
  if (driven.terminal) {
    create.add("--console-socket");
    create.add("tty");
    create.expect_terminal(listen_for_terminal(s));
  } else {
    create.pass_stdio();
  }
  if (!create.run()) give_up(s, create, true);
  // Its ends of the pipes are the container's alone from here on: their end is seen when it ends.
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) s.check(dup2(null, fd));
  announce(s, true);
  if (driven.terminal) announce_terminal(s, create, true);
  announce_ready(s);
  create.master.reset();
  RuntimeCommand start(driven, "start");
  if (!start.run()) give_up(s, start, false);
  announce_executed(s);
}

void drive_exec(Stage& s) {
  const Driven& driven = driven_of(s);
  begin(s);
  if (!write_file("process.json", driven.process)) s.fail(errno);
  RuntimeCommand exec(driven, "exec");
  for (const char* each : {"--detach", "--process", "process.json", "--pid-file", "pid"}) exec.add(each);
  if (!driven.leaf.empty() && driven.runtime.places_execs) {
    exec.add("--cgroup");
    exec.add(driven.leaf);
  }
  if (driven.terminal) {
    exec.add("--console-socket");
    exec.add("tty");
    exec.expect_terminal(listen_for_terminal(s));
  } else {
    exec.pass_stdio();
  }
  if (!exec.run()) give_up(s, exec, false);
  announce(s, false);
  if (driven.terminal) announce_terminal(s, exec, false);
  announce_ready(s);
  announce_executed(s);
}

void drive_delete(Stage& s) {
  begin(s);
  RuntimeCommand remove(driven_of(s), "delete");
  remove.add("--force");
  if (remove.run()) _exit(0);
  fail_with(s, DrivenBy::kRuntime, remove.error(), remove.message());
}

}  // namespace caisson::monitor
