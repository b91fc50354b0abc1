#include "oci/attend.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/spawn.h"
#include "core/sys.h"
#include "oci/log.h"

namespace caisson::oci {

namespace {

// Ours to deal with: children, and what only ever concerns this process.
bool is_forwarded(int number) { return number != SIGCHLD && number != SIGURG && number != SIGPIPE; }

void pass_on(const Attended& attended, int number) {
  if (number == SIGWINCH && attended.terminal->is_open()) return attended.terminal->resize();
  if (!is_forwarded(number)) return;
  const Status sent = send_signal(attended.pidfd, number);
  if (!sent && sent.error().err != ESRCH) log(Level::kWarning, Fault::of(sent.error()).text);
}

// Reaps what is there; true and the status when it was our process.
bool reap_children(int pid, int& status) {
  bool ours = false;
  for (;;) {
    int how = 0;
    const pid_t ended = waitpid(-1, &how, WNOHANG);
    if (ended < 0 && errno == EINTR) continue;
    if (ended <= 0) return ours;
    if (ended != pid) continue;
    ours = true;
    status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
  }
}

}  // namespace

Status adopt_orphans() {
  if (sys::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return Error::last("prctl", "PR_SET_CHILD_SUBREAPER");
  return ok();
}

Outcome<int> attend(const Attended& attended) {
  HostTerminal& terminal = *attended.terminal;
  for (;;) {
    const HostTerminal::Interest wanted = terminal.interest();
    pollfd fds[] = {
        {attended.pidfd, POLLIN, 0},
        {attended.signals, POLLIN, 0},
        {wanted.input != 0 ? STDIN_FILENO : -1, wanted.input, 0},
        {wanted.master != 0 ? terminal.master() : -1, wanted.master, 0},
    };
    if (poll(fds, 4, -1) < 0 && errno != EINTR) return Error::last("poll");
    terminal.handle(fds[2].revents, fds[3].revents);
    bool children = fds[0].revents != 0;
    if ((fds[1].revents & POLLIN) != 0) {
      signalfd_siginfo caught[8];
      const ssize_t n = read(attended.signals, caught, sizeof caught);
      for (ssize_t i = 0; i < n / static_cast<ssize_t>(sizeof caught[0]); ++i) {
        children = children || caught[i].ssi_signo == SIGCHLD;
        pass_on(attended, static_cast<int>(caught[i].ssi_signo));
      }
    }
    int status = 0;
    if (!children || !reap_children(attended.pid, status)) continue;
    terminal.drain();
    return status;
  }
}

}  // namespace caisson::oci
