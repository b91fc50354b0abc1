#include "oci/delivery.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "core/memfd.h"
#include "core/signals.h"
#include "core/spawn.h"
#include "core/sys.h"
#include "oci/unix_socket.h"

namespace caisson::oci {

namespace {

// Waits for the end of a child.
void reap_pidfd(int pidfd) {
  siginfo_t info;
  while (waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pidfd), &info, WEXITED) != 0 &&
         errno == EINTR) {
  }
}

}  // namespace

Result<Fd> catch_signals() {
  sigset_t all;
  sigfillset(&all);
  if (sigprocmask(SIG_SETMASK, &all, nullptr) != 0) return Error::last("sigprocmask");
  Fd fd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return Error::last("signalfd");
  return fd;
}

Delivery::~Delivery() {
  if (!child_ || !pidfd_) return;
  if (send_signal(pidfd_.get(), SIGKILL)) reap_pidfd(pidfd_.get());
}

void Delivery::begin(Birth birth) {
  pid_ = birth.pid;
  pidfd_ = static_cast<Fd&&>(birth.pidfd);
  gate_ = static_cast<Fd&&>(birth.gate);
  child_ = true;
}

void Delivery::join(Fd gate) {
  gate_ = static_cast<Fd&&>(gate);
  pid_ = state_.pid;
  ready_ = true;
}

Outcome<Delivery::Progress> Delivery::next() {
  for (;;) {
    GateReport report = OCI_TRY(wait());
    switch (report.kind) {
      case GateReport::kHeld:
        released_ = false;
        return Progress::kHeld;
      case GateReport::kReady:
        released_ = false;
        ready_ = true;
        return Progress::kReady;
      case GateReport::kFailed:
        return failed(report);
      case 0:
        if (ready_ && released_) return Progress::kExecuted;
        return Fault::text_of("the container's process ended before it was ready");
      default:
        break;  // kChild, kTerminal, kListener are dealt with
    }
  }
}

Outcome<GateReport> Delivery::wait() {
  for (;;) {
    pollfd fds[2] = {{gate_.get(), POLLIN, 0}, {signals_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return Error::last("poll");
    signalfd_siginfo caught;
    while ((fds[1].revents & POLLIN) != 0 && read(signals_, &caught, sizeof caught) == sizeof caught) {
      const int number = static_cast<int>(caught.ssi_signo);
      if (number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT)
        return Fault::text_of("interrupted by ", signal_name(number));
    }
    if (fds[0].revents == 0) continue;
    Fd passed;
    Result<GateReport> report = read_gate(gate_.get(), passed);
    if (report) {
      if (report->kind == GateReport::kChild) {
        reap_pidfd(pidfd_.get());  // the first stage has done its part
        pidfd_ = static_cast<Fd&&>(passed);
        pid_ = report->pid;
      } else if (report->kind == GateReport::kTerminal) {
        terminal_ = static_cast<Fd&&>(passed);
      } else if (report->kind == GateReport::kListener) {
        OCI_TRY(send_listener(passed.get()));
      }
      return *report;
    }
    if (report.error().err != EAGAIN) return report.error();
  }
}

Done Delivery::release(string_view hook_state) {
  // Before the process executes: it does not wait for the agent, only for its listener to be taken from it.
  if (plan_ != nullptr && plan_->head().listener_path.length != 0 && !agent_)
    agent_ = OCI_TRY(connect_stream(plan_->text(plan_->head().listener_path)));
  released_ = true;
  if (hook_state.empty()) {
    OCI_TRY(release_gate(gate_.get()));
    return done();
  }
  const Fd state = OCI_TRY(
      sealed_memfd("state", {reinterpret_cast<const u8*>(hook_state.data()), hook_state.size()}, MemfdKind::kData));
  OCI_TRY(release_gate(gate_.get(), state.get()));
  return done();
}

Fault Delivery::failed(const GateReport& report) {
  if (plan_ != nullptr) return Fault{describe_failure(*plan_, report).message};
  failure_ = report;
  return Fault::text_of(step_name(static_cast<Step>(report.step)), ": ", strerror(report.err));
}

// seccomp_unotify(2); runtime-spec config-linux.md "The Container Process State".
Done Delivery::send_listener(int listener) {
  if (plan_ == nullptr) return Fault::text_of("a seccomp listener without a plan");
  String text;
  JsonWriter json(text);
  json.begin_object().member("ociVersion", state_.version);
  json.key("fds").begin_array().value("seccompFd").end_array();
  json.member("pid", pid_).member("metadata", plan_->text(plan_->head().listener_metadata));
  json.key("state");
  append_state(json, state_, status_, false);
  json.end_object();
  OCI_TRY(send_descriptor(agent_.get(), text, listener));
  agent_.reset();
  return done();
}

}  // namespace caisson::oci
