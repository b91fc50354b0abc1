#include "monitor/process.h"

#include <signal.h>
#include <sys/wait.h>

#include "core/sys.h"
#include "monitor/report.h"

namespace caisson::monitor {

Status Process::adopt(Loop& loop, Fd pidfd, int pid) {
  source_.unwatch();
  pidfd_ = static_cast<Fd&&>(pidfd);
  pid_ = pid;
  source_.on_events.bind<&Process::on_readable>(this);
  return source_.watch(loop, pidfd_.get(), EPOLLIN);
}

Fd Process::release() {
  source_.unwatch();
  return static_cast<Fd&&>(pidfd_);
}

Status Process::signal(int number) const {
  if (!pidfd_) return Error(ESRCH, "pidfd_send_signal");
  if (sys::pidfd_send_signal(pidfd_.get(), number) != 0) return Error::last("pidfd_send_signal");
  return ok();
}

void Process::end_now() {
  if (!signal(SIGKILL)) return;
  siginfo_t info{};
  while (waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pidfd_.get()), &info, WEXITED | __WALL) != 0 &&
         errno == EINTR) {
  }
  source_.unwatch();
  pidfd_.reset();
}

void Process::on_readable(u32) {
  siginfo_t info{};
  int result;
  do
    result = waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pidfd_.get()), &info,
                    WEXITED | WNOHANG | __WALL);
  while (result != 0 && errno == EINTR);
  ExitStatus status;
  if (result != 0) {
    // ECHILD: not ours to wait for. It has ended all the same; nobody can say how.
    Error error = Error::last("waitid");
    report(Level::kError, "an exit status is lost", {}, &error);
    status.code = 255;
  } else if (info.si_pid == 0) {
    return;  // readable without an exit: a leader whose other threads live on
  } else if (info.si_code == CLD_EXITED) {
    status.code = info.si_status;
  } else {
    status.signal = info.si_status;
    status.code = 128 + info.si_status;
  }
  source_.unwatch();
  pidfd_.reset();
  on_exit(status);
}

void Process::save(HandoverWriter& out, string_view key) const {
  if (!pidfd_) return;
  out.json().key(key);
  out.json().begin_object();
  out.json().member("pid", pid_);
  out.fd("pidfd", pidfd_);
  out.json().end_object();
}

bool Process::restore(Loop& loop, const JsonValue& value) {
  Fd pidfd = inherited_fd(value["pidfd"]);
  if (!pidfd) return false;
  if (auto adopted = adopt(loop, static_cast<Fd&&>(pidfd), static_cast<int>(value["pid"].i64_or(0))); !adopted) {
    report(Level::kError, "a process cannot be watched", {}, &adopted.error());
    return false;
  }
  return true;
}

}  // namespace caisson::monitor
