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

[[noreturn]] void fail_with(Stage& s, int err, string_view message) {
  GateReport report;
  report.kind = GateReport::kFailed;
  report.step = kExternalStep;
  report.err = err;
  message = part(message, 0, sizeof report.found - 1);
  memcpy(report.found, message.data(), message.size());
  s.report(report);
  _exit(1);
}

// Nothing of a container whose creation has failed stays in the runtime's records.
[[noreturn]] void give_up(Stage& s, const Command& failed, bool created) {
  if (created) {
    Command undo(driven_of(s), "delete");
    undo.add("--force");
    undo.run();  // what the caller hears of is the failure that led to it
  }
  fail_with(s, failed.error(), failed.message());
}

[[noreturn]] void refuse_pid(Stage& s, const char* why, bool created) {
  const Driven& driven = driven_of(s);
  if (created) {
    Command undo(driven, "delete");
    undo.add("--force");
    undo.run();
  }
  String message("runtime handler \"");
  message.append(driven.runtime.name).append("\": ").append(driven.runtime.path).append(": ").append(why);
  fail_with(s, EPROTO, message);
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

bool read_text(const char* path, char* into, size_t size) {
  Fd fd(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  if (!fd) return false;
  ssize_t n = read(fd.get(), into, size - 1);
  if (n <= 0) return false;
  into[n] = '\0';
  return true;
}

int parse_pid(const char* text) {
  u32 pid = 0;
  const char* at = text;
  for (; *at >= '0' && *at <= '9' && at - text < 9; ++at) pid = pid * 10 + static_cast<u32>(*at - '0');
  while (*at == '\n' || *at == ' ') ++at;
  return *at == '\0' && pid > 1 ? static_cast<int>(pid) : -1;
}

int parent_of(int pid) {
  char path[40];
  char text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (!read_text(path, text, sizeof text)) return -1;
  const char* end = strrchr(text, ')');
  int parent = -1;
  return end != nullptr && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : -1;
}

bool is_in_cgroup(int pid, string_view name) {
  char path[40];
  char text[8192];
  snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
  if (!read_text(path, text, sizeof text)) return false;
  string_view all(text);
  String wanted("/");
  wanted.append(name);
  for (size_t at = all.find(wanted.view()); at != all.npos; at = all.find(wanted.view(), at + 1)) {
    const size_t end = at + wanted.size();
    if (end == all.size() || all[end] == '/' || all[end] == '\n') return true;
  }
  return false;
}

// The process that the runtime has left: a child of the monitor, in the container's cgroup. What the file says is
// believed of no other.
void announce(Stage& s, bool created) {
  char text[32];
  if (!read_text("pid", text, sizeof text)) refuse_pid(s, "has written no pid file", created);
  const int pid = parse_pid(text);
  if (pid < 0) refuse_pid(s, "what it has written as a pid file is no process id", created);
  Fd pidfd(sys::pidfd_open(pid));
  if (!pidfd) refuse_pid(s, "the process of its pid file does not exist", created);
  if (parent_of(pid) != getppid())
    refuse_pid(s, "the process of its pid file is no child of the pod's monitor", created);
  if (!is_in_cgroup(pid, driven_of(s).runtime.cgroup))
    refuse_pid(s, "the process of its pid file is not in the container's cgroup", created);
  GateReport child;
  child.kind = GateReport::kChild;
  child.pid = pid;
  s.report(child, pidfd.get());
}

void announce_terminal(Stage& s, const Command& command, bool created) {
  if (!command.master) refuse_pid(s, "has handed over no terminal", created);
  GateReport terminal;
  terminal.kind = GateReport::kTerminal;
  s.report(terminal, command.master.get());
}

void announce_ready(Stage& s) {
  GateReport ready;
  ready.kind = GateReport::kReady;
  ready.uid = s.identity.uid;
  ready.gid = s.identity.gid;
  ready.group_count = s.identity.group_count;
  for (u32 i = 0; i < s.identity.group_count; ++i) ready.groups[i] = s.identity.groups[i];
  s.report(ready);
  wait_for_release(s);
}

[[noreturn]] void announce_executed(Stage& s) {
  GateReport executed;
  executed.kind = GateReport::kExecuted;
  s.report(executed);
  _exit(0);
}

// As a stage begins, without a plan.
void begin(Stage& s) {
  s.at(Step::kPrepare);
  s.check(sys::prctl(uapi::kPrSetPdeathsig, SIGKILL));
  take_stdio(s);
  s.check(sys::close_range(3, static_cast<unsigned>(s.gate) - 1));
  s.check(sys::close_range(static_cast<unsigned>(s.gate) + 1, ~0u));
  default_signals(s);
  make_view(s, driven_of(s));
  s.check(mkdir("rootfs", 0755));  // runc changes to it, as its records say, and looks at nothing there
}

}  // namespace

void drive_create(Stage& s) {
  const Driven& driven = driven_of(s);
  default_signals(s);
  make_bundle(s, driven);
  Command create(driven, "create");
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
  Command start(driven, "start");
  if (!start.run()) give_up(s, start, false);
  announce_executed(s);
}

void drive_exec(Stage& s) {
  const Driven& driven = driven_of(s);
  begin(s);
  if (!write_file("process.json", driven.process)) s.fail(errno);
  Command exec(driven, "exec");
  for (const char* each : {"--detach", "--process", "process.json", "--pid-file", "pid"}) exec.add(each);
  if (!driven.leaf.empty()) {
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
  Command remove(driven_of(s), "delete");
  remove.add("--force");
  if (remove.run()) _exit(0);
  fail_with(s, remove.error(), remove.message());
}

}  // namespace caisson::monitor
