#include "core/program.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "core/sys.h"

namespace caisson {

namespace {

i64 now_ms() {
  timespec t = {};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return i64{t.tv_sec} * 1000 + t.tv_nsec / 1'000'000;
}

// errno travels through a pipe that a successful execve closes.
[[noreturn]] void become_program(const Program& program, int output, int failure) {
  auto fail = [&] {
    int err = errno;
    if (write(failure, &err, sizeof err) != sizeof err) _exit(126);
    _exit(127);
  };
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // CLONE_CLEAR_SIGHAND leaves ignored signals ignored.
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int signal : {SIGPIPE, SIGINT, SIGQUIT, SIGHUP, SIGTERM}) sigaction(signal, &action, nullptr);
  // A group of its own, so that a time-out ends what it started too.
  if (setpgid(0, 0) != 0) fail();
  if (program.directory >= 0 ? fchdir(program.directory) != 0 : chdir("/") != 0) fail();
  // Above what they become, so that none is overwritten before it is taken.
  const int input = fcntl(program.input, F_DUPFD_CLOEXEC, 4);
  const int out = fcntl(output, F_DUPFD_CLOEXEC, 4);
  const int report = fcntl(failure, F_DUPFD_CLOEXEC, 4);
  if (input < 0 || out < 0 || report < 0 || dup3(report, 3, O_CLOEXEC) < 0) fail();
  failure = 3;
  if (dup2(input, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || sys::close_range(4, ~0u) != 0) fail();
  execve(program.path, program.argv, program.envp);
  fail();
  _exit(127);
}

// Keeps the last kOutputMax bytes.
void keep_output(ProgramEnd& end, const char* text, size_t size) {
  if (size >= ProgramEnd::kOutputMax) {
    memcpy(end.output, text + size - ProgramEnd::kOutputMax, ProgramEnd::kOutputMax);
    end.output_size = ProgramEnd::kOutputMax;
    return;
  }
  size_t keep = end.output_size;
  if (keep + size > ProgramEnd::kOutputMax) keep = ProgramEnd::kOutputMax - size;
  memmove(end.output, end.output + end.output_size - keep, keep);
  memcpy(end.output + keep, text, size);
  end.output_size = keep + size;
}

// False at EOF.
bool drain(int fd, ProgramEnd& end) {
  char buffer[2048];
  for (;;) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n > 0) {
      keep_output(end, buffer, static_cast<size_t>(n));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    return n < 0 && errno == EAGAIN;
  }
}

struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() = default;
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  void close_end(int i) {
    if (ends[i] >= 0) close(ends[i]);
    ends[i] = -1;
  }
};

void wait_for(int pid, int pidfd, Pipe& output, const Program& program, ProgramEnd& end) {
  const i64 deadline = now_ms() + i64{program.timeout} * 1000;
  bool reading = true;
  for (;;) {
    pollfd fds[3] = {{pidfd, POLLIN, 0},
                     {reading ? output.ends[0] : -1, POLLIN, 0},
                     {program.cancel, 0, 0}};  // POLLHUP is always told
    i64 left = program.timeout == 0 ? -1 : deadline - now_ms();
    if (program.timeout != 0 && left < 0) left = 0;
    // A time-out may be longer than poll(2) counts: asked for in pieces.
    int n = poll(fds, 3, left > 60'000 ? 60'000 : static_cast<int>(left));
    if (n < 0 && errno != EINTR) {
      end.err = errno;
      break;
    }
    if (n > 0 && (fds[1].revents != 0)) reading = drain(output.ends[0], end);
    if (n > 0 && (fds[0].revents != 0)) break;
    if (n > 0 && (fds[2].revents != 0)) {
      end.err = ECANCELED;
      break;
    }
    if (program.timeout != 0 && now_ms() >= deadline) {
      end.err = ETIMEDOUT;
      break;
    }
  }
  if (end.err != 0) {
    kill(-pid, SIGKILL);
    sys::pidfd_send_signal(pidfd, SIGKILL);
  }
  while (waitpid(pid, &end.status, 0) < 0) {
    if (errno == EINTR) continue;
    if (end.err == 0) end.err = errno;
    break;
  }
  // What its own children still write is not waited for.
  if (reading) drain(output.ends[0], end);
}

}  // namespace

void run_program(const Program& program, ProgramEnd& end) {
  end.err = 0;
  end.status = 0;
  end.output_size = 0;
  Pipe output;
  Pipe failure;
  if (lseek(program.input, 0, SEEK_SET) < 0 || pipe2(output.ends, O_CLOEXEC) != 0 ||
      pipe2(failure.ends, O_CLOEXEC) != 0 || fcntl(output.ends[0], F_SETFL, O_NONBLOCK) != 0) {
    end.err = errno;
    return;
  }
  int pidfd = -1;
  uapi::CloneArgs args = {};
  args.flags = uapi::kClonePidfd | uapi::kCloneClearSighand;
  args.pidfd = reinterpret_cast<u64>(&pidfd);
  args.exit_signal = SIGCHLD;
  int pid = sys::clone3(args);
  if (pid < 0) {
    end.err = errno;
    return;
  }
  if (pid == 0) become_program(program, output.ends[1], failure.ends[1]);
  setpgid(pid, pid);  // both sides do: whichever comes first
  output.close_end(1);
  failure.close_end(1);
  int err = 0;
  ssize_t n = 0;
  do n = read(failure.ends[0], &err, sizeof err);
  while (n < 0 && errno == EINTR);
  wait_for(pid, pidfd, output, program, end);
  close(pidfd);
  if (n == static_cast<ssize_t>(sizeof err)) {
    end.err = err;
    end.status = 0;
  }
}

}  // namespace caisson
