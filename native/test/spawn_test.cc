// spawn.h: descriptors, errors, signals of a program started by clone3. Needs no privilege.
#include "core/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/check.h"

using namespace caisson;

namespace {

Exit wait_exit(const Spawned& child) {
  struct pollfd one = {child.pidfd.get(), POLLIN, 0};
  CHECK(poll(&one, 1, 5000) == 1);
  auto exit = reap(child.pidfd.get());
  CHECK(exit && exit->exited);
  return *exit;
}

Result<Spawned> shell(const char* script, span<const int> fds, int exe) {
  const char* argv[] = {"sh", "-c", script, nullptr};
  char* const envp[] = {nullptr};
  SpawnRequest request;
  request.exe = exe;
  request.argv = const_cast<char* const*>(argv);
  request.envp = envp;
  request.fds = fds;
  return spawn(request);
}

}  // namespace

int main() {
  Fd sh(open("/bin/sh", O_RDONLY | O_CLOEXEC));
  int plain[] = {-1, -1, -1};
  auto seven = shell("exit 7", plain, sh.get());
  CHECK(seven && wait_exit(*seven).code == 7);
  auto killed = shell("kill -9 $$", plain, sh.get());
  CHECK(killed && wait_exit(*killed).signal == SIGKILL);

  // Descriptors that cross: each wants the place of the other, and one stays where it is.
  int left[2], right[2];
  CHECK(pipe2(left, O_CLOEXEC) == 0 && pipe2(right, O_CLOEXEC) == 0);
  Fd low_a(fcntl(left[1], F_DUPFD_CLOEXEC, 3)), low_b(fcntl(right[1], F_DUPFD_CLOEXEC, 3));
  int size = (low_a.get() > low_b.get() ? low_a.get() : low_b.get()) + 1;
  int crossed[64];
  for (int i = 0; i < size; ++i) crossed[i] = -1;
  crossed[low_a.get()] = low_b.get();
  crossed[low_b.get()] = low_a.get();
  char script[160];
  snprintf(script, sizeof script,
           "echo A >/proc/self/fd/%d; echo B >/proc/self/fd/%d; test $(ls /proc/self/fd | wc -l) -le %d", low_a.get(),
           low_b.get(), size + 1);
  auto crossing = shell(script, {crossed, static_cast<size_t>(size)}, sh.get());
  CHECK(crossing && wait_exit(*crossing).code == 0);
  char text[8] = {};
  CHECK(read(right[0], text, sizeof text) == 2 && text[0] == 'A');
  CHECK(read(left[0], text, sizeof text) == 2 && text[0] == 'B');

  // The executable itself at a number that the child's descriptors take.
  Fd low(dup(sh.get()));
  int taken[64];
  for (int& fd : taken) fd = -1;
  CHECK(low.get() < 64);
  auto moved = shell("exit 3", {taken, 64}, low.get());
  CHECK(moved && wait_exit(*moved).code == 3);

  Fd text_file(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  auto refused = shell("", plain, text_file.get());
  CHECK(!refused && refused.error().err == EACCES && string_view(refused.error().call) == "execveat");
  int bad[] = {-1, -1, 9999};
  auto unknown = shell("", bad, sh.get());
  CHECK(!unknown && unknown.error().err == EBADF);

  // The mask of the caller is as before, whatever happened; the child's is empty.
  sigset_t mask, now;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  auto masked = shell("kill -USR1 $$; exit 0", plain, sh.get());
  CHECK(masked && wait_exit(*masked).signal == SIGUSR1);
  sigprocmask(SIG_SETMASK, nullptr, &now);
  CHECK(sigismember(&now, SIGUSR1) == 1 && sigismember(&now, SIGTERM) == 0);

  auto sleeping = shell("exec sleep 100", plain, sh.get());
  CHECK(sleeping && !reap(sleeping->pidfd.get())->exited);
  CHECK(send_signal(sleeping->pidfd.get(), SIGTERM));
  CHECK(wait_exit(*sleeping).signal == SIGTERM);
  CHECK(send_signal(sleeping->pidfd.get(), SIGTERM).error().err == ESRCH);
  CHECK(reap(sleeping->pidfd.get()).error().err == ECHILD);
  return test::done();
}
