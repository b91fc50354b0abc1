// caisson-monitor: one per pod. Holds the pod's namespaces, is the parent of everything that runs in it, writes its
// logs and exit records, and answers on a control socket. It needs nobody: the service that started it may come and go.
//
//   caisson-monitor --pod <64 hex digits> [--reexec <descriptor>]
//   caisson-monitor --init      is the init of a pod, which has its label from the policy of SELinux (create_pod)
//   caisson-monitor --hold      keeps a scope of systemd alive until a container is in it: waits for the end of input
//
// Started with descriptors 0 and 1 on /dev/null, 2 for its own log, 3 the directory in which it binds `control`, 4
// where it writes one line when it listens. Exit status: 0 when the pod was ended, 125 when it could not start.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/build_id.h"
#include "core/launch.h"
#include "core/sys.h"
#include "monitor/dispatch.h"
#include "monitor/loop.h"
#include "monitor/pod.h"
#include "monitor/reexec.h"
#include "monitor/report.h"
#include "monitor/server.h"

namespace caisson::monitor {
namespace {

constexpr int kCannotStart = 125;
constexpr int kDirectory = 3;
constexpr int kReady = 4;

int term_event = -1;

void on_term(int) {
  int before = errno;
  u64 one = 1;
  if (write(term_event, &one, sizeof one) < 0) errno = before;
  errno = before;
}

void on_ignored(int) {}

// Handlers instead of SIG_IGN: an ignored signal stays ignored across exec, and a container would inherit that
// (execve(2), "dispositions of ignored signals are left unchanged").
void handle(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  sigaction(number, &action, nullptr);
}

void lower_oom_score() {
  Fd file(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  constexpr string_view kScore = "-999";
  if (file && write(file.get(), kScore.data(), kScore.size()) == static_cast<ssize_t>(kScore.size())) return;
  Error error = Error::last("write", "/proc/self/oom_score_adj");
  if (error.err != EACCES)
    report(Level::kWarn, "cannot lower the OOM score", {}, &error);  // EACCES: no CAP_SYS_RESOURCE
}

void prepare_process() {
  if (setsid() < 0 && errno != EPERM) {  // EPERM: it leads a group already
    Error error = Error::last("setsid");
    report(Level::kWarn, "cannot leave the session of the service", {}, &error);
  }
  // CVE-2019-5736, CVE-2016-9962: a process of a container that sees us in a shared PID namespace must not reach our
  // descriptors or our program through /proc.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  prctl(PR_SET_NAME, "caisson-monitor", 0, 0, 0);
  umask(022);
  lower_oom_score();
}

// The parts, wired together.
class Monitor {
 public:
  explicit Monitor(string_view pod_id) : server_(loop_), pod_(loop_, server_, pod_id), dispatcher_(server_, pod_) {}

  Status open() {
    CAISSON_TRY(loop_.open());
    loop_.after_batch.bind<&Monitor::sweep>(this);
    server_.on_request.bind<&Monitor::request>(this);
    server_.on_lease_end.bind<&Monitor::end_pod>(this);
    dispatcher_.on_reexec.bind<&Monitor::reexec>(this);
    pod_.on_end.bind<&Monitor::pod_ended>(this);
    term_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!term_) return Error::last("eventfd");
    term_event = term_.get();
    term_source_.on_events.bind<&Monitor::term>(this);
    CAISSON_TRY(term_source_.watch(loop_, term_.get(), EPOLLIN));
    handle(SIGTERM, on_term);
    handle(SIGINT, on_term);
    handle(SIGHUP, on_ignored);
    handle(SIGPIPE, on_ignored);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    return ok();
  }

  Status listen() {
    CAISSON_TRY(server_.listen(Fd(fcntl(kDirectory, F_DUPFD_CLOEXEC, 5))));
    close(kDirectory);
    Fd ready(kReady);
    constexpr string_view kLine = "ready\n";
    if (write(ready.get(), kLine.data(), kLine.size()) != static_cast<ssize_t>(kLine.size()))
      return Error::last("write", "the descriptor that hears of readiness");
    return ok();
  }

  Status take_over_from(int memfd) {
    Ticket ticket = CAISSON_TRY(take_over(memfd, server_, pod_));
    String text;
    JsonWriter json(text);
    json.begin_object();
    json.member("buildId", build_id());
    json.end_object();
    server_.reply(ticket, text);
    return ok();
  }

  Status run() { return loop_.run(); }

 private:
  void request(Ticket ticket, Frame& frame) { dispatcher_.handle(ticket, frame); }
  void term(u32) {
    u64 count;
    if (read(term_.get(), &count, sizeof count) == sizeof count) end_pod();
  }
  void end_pod() { pod_.end(Ticket()); }
  void reexec(Ticket ticket, Fd& executable) {
    server_.flush();
    server_.fail(ticket, Failure::of(become(executable.get(), ticket, server_, pod_)));
  }
  void sweep() {
    server_.sweep();
    pod_.sweep();
  }
  void pod_ended() {
    server_.close();
    loop_.stop();
  }

  Loop loop_;
  Server server_;
  Pod pod_;
  Dispatcher dispatcher_;
  Fd term_;
  Source term_source_;
};

int fail(string_view what, const Error& error) {
  report(Level::kError, what, {}, &error);
  return kCannotStart;
}

int descriptor(const char* text) {
  char* end = nullptr;
  long n = strtol(text, &end, 10);
  return *text != '\0' && *end == '\0' && n > 2 && n < 1'000'000 ? static_cast<int>(n) : -1;
}

// Nothing is allocated and nothing else is open: what it does is charged to a container's cgroup.
int hold() {
  sys::close_range(1, ~0u);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  char byte;
  while (read(0, &byte, 1) != 0)
    if (errno != EINTR && errno != 0) return kCannotStart;
  return 0;
}

int run(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--hold") == 0) return hold();
  if (argc == 2 && strcmp(argv[1], "--init") == 0) rest_as_init();
  if (argc < 3 || strcmp(argv[1], "--pod") != 0 || !is_id(argv[2]))
    return fail("usage: caisson-monitor --pod <64 hex digits> [--reexec <descriptor>]", Error(EINVAL, "arguments"));
  set_report_pod(argv[2]);
  if (argc == 6 && strcmp(argv[3], "--try") == 0)
    return try_state(descriptor(argv[4]), descriptor(argv[5]), argv[2]) ? 0 : kCannotStart;
  int state = argc == 5 && strcmp(argv[3], "--reexec") == 0 ? descriptor(argv[4]) : -1;
  if (state < 0 && argc != 3) return fail("unknown arguments", Error(EINVAL, "arguments"));

  // What else the parent has left open is not ours to hold.
  if (state < 0) sys::close_range(kReady + 1, ~0u);
  prepare_process();
  auto monitor = Box<Monitor>::make(string_view(argv[2]));
  if (auto opened = monitor->open(); !opened) return fail("cannot start", opened.error());
  auto begun = state < 0 ? monitor->listen() : monitor->take_over_from(state);
  if (!begun) return fail("cannot start", begun.error());
  auto ran = monitor->run();
  return ran ? 0 : fail("the event loop has failed", ran.error());
}

}  // namespace
}  // namespace caisson::monitor

int main(int argc, char** argv) { return caisson::monitor::run(argc, argv); }
