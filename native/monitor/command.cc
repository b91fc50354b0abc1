#include "monitor/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/passing.h"
#include "core/sys.h"

namespace caisson::monitor {

namespace {

constexpr size_t kLogTail = 32 << 10;

// What callers of container tools tell apart: 127 and 126. runc says `exec: "x": …`, crun "executable file `x` …".
int errno_of(string_view text) {
  if (text.find("exec: \"") == text.npos && text.find("executable") == text.npos) return EIO;
  return text.find("ermission denied") == text.npos ? ENOENT : EACCES;
}

// What a text names as an error, first: criu(8) goes on to say what else fails for that.
string_view first_error(string_view text) {
  const size_t at = text.find("Error (");
  if (at == text.npos) return {};
  string_view line = part(text, at, text.find('\n', at) - at);
  const size_t end = line.find("): ");
  return end == line.npos ? line : part(line, end + 3);
}

// What the program has logged last: a line of JSON with a "msg", an error, or as it stands.
String last_words(const char* path) {
  Fd fd(open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat st = {};
  if (!fd || fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return String();
  char text[kLogTail];
  const off_t from = st.st_size > static_cast<off_t>(sizeof text) ? st.st_size - static_cast<off_t>(sizeof text) : 0;
  ssize_t n = pread(fd.get(), text, sizeof text, from);
  if (n <= 0) return String();
  string_view all(text, static_cast<size_t>(n));
  while (!all.empty() && (all.back() == '\n' || all.back() == ' ')) all.remove_suffix(1);
  const size_t newline = all.rfind('\n');
  string_view line = newline == all.npos ? all : part(all, newline + 1);
  if (auto document = JsonDocument::parse(line, {kLogTail, 4, 64}))
    if (string_view said = document->root()["msg"].string_or(""); !said.empty()) return String(said);
  const string_view error = first_error(all);
  return String(error.empty() ? line : error);
}

[[noreturn]] void give_up(int failure) {
  const int err = errno;
  _exit(write(failure, &err, sizeof err) < 0 ? 126 : 127);
}

}  // namespace

// In the child of the driver: nothing but what is passed on purpose goes along, and it ends with the driver.
void Command::execute(char* const* argv, int failure) const {
  static const char* const kEnvironment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                             nullptr};
  sys::prctl(uapi::kPrSetPdeathsig, SIGKILL);
  setpgid(0, 0);
  umask(022);
  if (cgroup_ >= 0) {
    Fd processes(openat(cgroup_, "cgroup.procs", O_WRONLY | O_CLOEXEC));
    if (!processes || write(processes.get(), "0", 1) != 1 || sys::unshare(uapi::kCloneNewcgroup) != 0) give_up(failure);
  }
  if (!stdio_) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  }
  failure = fcntl(failure, F_DUPFD_CLOEXEC, 5);  // out of the way of descriptor 3
  if (passed_ == 3) fcntl(3, F_SETFD, 0);
  if (passed_ > 3) dup2(passed_, 3);
  if (passed_ < 0) close(3);
  failure = dup3(failure, 4, O_CLOEXEC);
  sys::close_range(5, ~0u);
  execve(path_.c_str(), argv, const_cast<char* const*>(kEnvironment));
  give_up(failure);
}

bool Command::fail(int err, string_view what) {
  error_ = err;
  message_ = String();
  message_.append(subject_).append(": ").append(path_).append(" ").append(verb_).append(": ");
  message_.append(part(what, 0, kMessageMax - 300));
  if (message_.size() > kMessageMax) message_.truncate(kMessageMax);
  return false;
}

bool Command::fail_by_log(int status) {
  String said = last_words(log_.c_str());
  if (!said.empty()) return fail(errno_of(said), said);
  String text;
  if (WIFSIGNALED(status))
    text.append("was ended by signal ").append_i64(WTERMSIG(status));
  else
    text.append("failed with status ").append_i64(WEXITSTATUS(status)).append(" and has logged nothing");
  return fail(EIO, text);
}

void Command::close_listener() {
  if (listener_ >= 0) close(std::exchange(listener_, -1));
}

bool Command::run() {
  Vec<char*> argv;
  argv.push(const_cast<char*>(path_.c_str()));
  for (const String& argument : arguments_) argv.push(const_cast<char*>(argument.c_str()));
  argv.push(nullptr);

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(errno, strerror(errno));
  Fd failure(ends[0]);
  Fd theirs(ends[1]);
  const int pid = fork();
  if (pid < 0) return fail(errno, strerror(errno));
  if (pid == 0) execute(argv.data(), theirs.get());
  theirs.reset();
  setpgid(pid, pid);  // whichever of the two comes first
  Fd pidfd(sys::pidfd_open(pid));
  const bool done = pidfd && wait(pid, pidfd.get(), failure.get());
  if (!pidfd) fail(errno, "its process cannot be watched");
  close_listener();
  return done;
}

bool Command::wait(int pid, int pidfd, int failure) {
  const i64 deadline = monotonic_ns() + static_cast<i64>(timeout_ms_) * kMillisecond;
  for (;;) {
    pollfd polled[] = {{pidfd, POLLIN, 0}, {listener_, POLLIN, 0}};
    const i64 left = (deadline - monotonic_ns()) / kMillisecond;
    if (left <= 0) break;
    const int ready = poll(polled, 2, static_cast<int>(left));
    if (ready < 0 && errno != EINTR) break;
    if (ready <= 0) continue;
    if ((polled[1].revents & POLLIN) != 0) take_terminal();
    if (polled[0].revents == 0) continue;
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    int err = 0;
    if (read(failure, &err, sizeof err) == sizeof err) {
      String text("cannot be executed: ");
      text.append(strerror(err));
      return fail(ENOEXEC, text);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return fail_by_log(status);
    return true;
  }
  kill(-pid, SIGKILL);
  kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  String text("has not ended within ");
  text.append_u64(timeout_ms_).append(" ms and was killed");
  return fail(ETIMEDOUT, text);
}

// runc's protocol: one message, the terminal's master beside some text that nobody needs.
void Command::take_terminal() {
  Fd connection(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) return;
  close_listener();
  const timeval limit{10, 0};
  setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  char text[4096];
  int passed = -1;
  if (receive_passing(connection.get(), text, sizeof text, passed) < 0 || passed < 0) return;
  master = Fd(passed);
  if (isatty(passed) == 0) master.reset();
}

}  // namespace caisson::monitor
