#include "monitor/reexec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/build_id.h"
#include "core/uapi.h"
#include "monitor/birth.h"
#include "monitor/handover.h"

namespace caisson::monitor {

namespace {

constexpr int kTrialTimeMs = 2000;
constexpr int kEmptyPath = 0x1000;  // AT_EMPTY_PATH, execveat(2)

void execute(int executable, const char* const* argv) {
  static const char* const kNoEnvironment[] = {nullptr};
  syscall(SYS_execveat, executable, "", argv, kNoEnvironment, kEmptyPath);
}

bool is_build_id(string_view text) {
  if (text.size() != 16) return false;
  for (char c : text)
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  return true;
}

// Runs the new program on the state in a child and waits for its word, which takes well under a millisecond; a program
// that says nothing for 2 s is killed.
Status trial(int executable, int state, string_view pod_id) {
  auto answer = CAISSON_TRY(make_pipe());
  String pod(pod_id);
  char state_number[12], answer_number[12];
  snprintf(state_number, sizeof state_number, "%d", state);
  snprintf(answer_number, sizeof answer_number, "%d", answer.write.get());
  const char* argv[] = {"caisson-monitor", "--pod", pod.c_str(), "--try", state_number, answer_number, nullptr};
  pid_t child = fork();
  if (child < 0) return Error::last("fork");
  if (child == 0) {
    fcntl(state, F_SETFD, 0);
    fcntl(answer.write.get(), F_SETFD, 0);
    execute(executable, argv);
    _exit(127);
  }
  answer.write.reset();
  char said[17];
  size_t size = 0;
  while (size < sizeof said) {
    pollfd ready{answer.read.get(), POLLIN, 0};
    int n = poll(&ready, 1, kTrialTimeMs);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    ssize_t got = read(answer.read.get(), said + size, sizeof said - size);
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  if (!is_build_id(string_view(said, size))) {
    kill(child, SIGKILL);  // by number: our child, not yet waited for
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    return Error(ENOEXEC, "reexec", "the program does not understand the state of this monitor");
  }
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return ok();
}

}  // namespace

Error become(int executable, Ticket ticket, const Server& server, const Pod& pod) {
  if (pod.ending()) return Error(EBUSY, "reexec", "the pod is ending");
  if (server.has_unsent()) return Error(EBUSY, "reexec", "a client has not read what was sent to it");
  HandoverWriter out;
  out.json().begin_object();
  out.json().member("version", kHandoverVersion);
  out.json().member("buildId", build_id());
  out.json().member("podId", pod.id());
  ticket.save(out, "ticket");
  out.json().key("server");
  server.save(out);
  out.json().key("pod");
  pod.save(out);
  out.json().end_object();
  auto state = write_handover(out.text());
  if (!state) return state.error();
  if (auto tried = trial(executable, state->get(), pod.id()); !tried) return tried.error();

  String pod_id(pod.id());
  char number[12];
  snprintf(number, sizeof number, "%d", state->get());
  const char* argv[] = {"caisson-monitor", "--pod", pod_id.c_str(), "--reexec", number, nullptr};
  // Between the exec and the new program's handlers, a signal that this one handles would end the pod.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  set_close_on_exec(out.kept(), false);
  fcntl(state->get(), F_SETFD, 0);
  execute(executable, argv);
  Error error = Error::last("execveat");
  set_close_on_exec(out.kept(), true);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return error;
}

namespace {

Status check_head(const JsonValue& root, string_view pod_id) {
  // Members may be added within a version; a monitor that must change the meaning of one raises it.
  if (root["version"].u64_or(0) != kHandoverVersion) return Error(EPROTONOSUPPORT, "reexec", "version of the state");
  if (root["podId"].string_or("") != pod_id) return Error(EINVAL, "reexec", "id of the pod");
  if (!root["server"].is_object() || !root["pod"].is_object()) return Error(EINVAL, "reexec", "state");
  return ok();
}

}  // namespace

bool try_state(int memfd, int answer, string_view pod_id) {
  auto document = read_handover(memfd);
  if (!document || !check_head(document->root(), pod_id)) return false;
  string_view id = build_id();
  return write(answer, id.data(), id.size()) == static_cast<ssize_t>(id.size());
}

Result<Ticket> take_over(int memfd, Server& server, Pod& pod) {
  Fd owned(memfd);
  auto document = CAISSON_TRY(read_handover(memfd));
  const JsonValue& root = document.root();
  CAISSON_TRY(check_head(root, pod.id()));
  CAISSON_TRY(server.restore(root["server"]));
  CAISSON_TRY(pod.restore(root["pod"]));
  return Ticket::restore(root["ticket"]);
}

}  // namespace caisson::monitor
