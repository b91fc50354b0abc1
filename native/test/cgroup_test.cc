// cgroup.h against the machine's own cgroup2 mount; needs root. Skipped, and said so, without one.
#include "core/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/check.h"

using namespace caisson;

namespace {

// A child that is moved into the cgroup and sleeps there.
pid_t sleeper(int cgroup) {
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  char text[16];
  int n = snprintf(text, sizeof text, "%d", pid);
  CHECK(cgroup_write(cgroup, "cgroup.procs", string_view(text, static_cast<size_t>(n))));
  return pid;
}

// fork(2) of glibc blocks every signal meanwhile: one that the freeze interrupts is begun again after the thaw, with
// the signal still waiting, and its child, born after the signal, never had it.
pid_t plain_fork() { return static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }

// More processes than one batch of descriptors, in cgroups of two levels, some still forking: none is missed.
void signal_all(int cgroup) {
  constexpr int kParents = 40;
  constexpr int kChildren = 9;  // of each
  auto below = cgroup_create(cgroup, "signals");
  auto deeper = cgroup_create(below->get(), "deeper");
  CHECK(deeper);
  CHECK(cgroup_freeze(below->get(), true, 30'000));
  CHECK(cgroup_is_frozen(below->get()) && cgroup_is_frozen(deeper->get()) && !cgroup_is_frozen(cgroup));
  CHECK(cgroup_freeze(below->get(), false, 30'000));
  CHECK(!cgroup_is_frozen(below->get()) && !cgroup_is_frozen(deeper->get()));
  pid_t parents[kParents];
  for (int i = 0; i < kParents; ++i) {
    parents[i] = fork();
    if (parents[i] == 0) {
      char text[16];
      int n = snprintf(text, sizeof text, "%d", getpid());
      if (!cgroup_write(i % 2 == 0 ? below->get() : deeper->get(), "cgroup.procs", {text, size_t(n)})) _exit(1);
      for (int child = 0; child < kChildren && plain_fork() != 0; ++child) usleep(20'000);
      for (;;) pause();
    }
  }
  for (int i = 0; i < 3000 && cgroup_processes(cgroup)->size() < 300; ++i) usleep(10'000);
  CHECK(cgroup_processes(cgroup)->size() >= 300);
  CHECK(cgroup_signal(below->get(), SIGTERM));
  CHECK(cgroup_wait_empty(below->get(), 30'000));
  CHECK(!cgroup_is_frozen(below->get()));
  for (pid_t parent : parents) {
    int status = 0;
    CHECK(waitpid(parent, &status, 0) == parent && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  }
  CHECK(cgroup_signal(below->get(), SIGTERM));
  CHECK(cgroup_signal(below->get(), SIGKILL));
  CHECK(cgroup_remove(cgroup, "signals"));
  CHECK(cgroup_signal(below->get(), SIGTERM));  // gone
  CHECK(cgroup_processes(below->get())->empty());
  CHECK(!cgroup_is_frozen(below->get()));
}

}  // namespace

int main() {
  CHECK(cgroup_has_word("cpuset cpu io", "cpu"));
  CHECK(!cgroup_has_word("cpuset io", "cpu"));
  CHECK(!cgroup_has_word("", "cpu"));
  MemoryEvents counts =
      parse_memory_events("low 0\nhigh 1\nmax 22\noom 3\noom_kill 18446744073709551615\nodd\nx 99999999999999999999\n");
  CHECK(counts.high == 1 && counts.max == 22 && counts.oom == 3 && counts.oom_kill == ~u64{0} && counts.low == 0);

  auto mount = find_cgroup_mount();
  char name[64];
  snprintf(name, sizeof name, "caisson-test-%d", getpid());
  if (geteuid() != 0 || !mount) {
    printf("skipped: needs root and a mount of cgroup2\n");
    return test::done();
  }
  int root = mount->dir.get();
  CHECK(cgroup_path_of(0) && cgroup_path_of(getpid())->view() == cgroup_path_of(0)->view());
  auto nobody = cgroup_path_of(999'999'999);
  CHECK(!nobody && nobody.error().err == ENOENT);
  CHECK(mount->path.view().substr(0, 14) == "/sys/fs/cgroup");

  string_view absent[] = {"nosuch"};
  char path[128];
  snprintf(path, sizeof path, "%s/a/b", name);
  auto refused = cgroup_ensure(root, path, absent);
  CHECK(!refused && refused.error().err == ENOTSUP && string_view(refused.error().object).find("nosuch") == 0);
  CHECK(faccessat(root, name, F_OK, 0) != 0);

  auto dots = cgroup_ensure(root, "caisson-test/../x", {});
  CHECK(!dots && dots.error().err == EINVAL);
  CHECK(faccessat(root, "caisson-test", F_OK, 0) != 0);

  auto made = cgroup_ensure(root, path, {});
  CHECK(made);
  if (!made) return test::done();
  CHECK(cgroup_ensure(root, path, {}));
  CHECK(!cgroup_create(root, name));
  auto leaf = cgroup_create(made->get(), "leaf");
  CHECK(leaf);
  CHECK(!cgroup_open(leaf->get(), "../.."));

  pid_t pid = sleeper(leaf->get());
  auto events = cgroup_events(made->get());
  CHECK(events && events->populated && !events->frozen);
  CHECK(cgroup_freeze(made->get(), true, 2000));
  CHECK(cgroup_events(made->get())->frozen);
  auto busy = cgroup_remove(root, name);
  CHECK(!busy && busy.error().err == EBUSY);
  auto inside = cgroup_processes(made->get());
  CHECK(inside && inside->size() == 1 && (*inside)[0] == pid);
  CHECK(cgroup_is_frozen(made->get()) && cgroup_is_frozen(leaf->get()));
  CHECK(cgroup_signal(made->get(), SIGSTOP));
  CHECK(cgroup_is_frozen(made->get()));  // it was before
  auto slow = cgroup_wait_empty(made->get(), 20);
  CHECK(!slow && slow.error().err == ETIMEDOUT);
  CHECK(cgroup_freeze(made->get(), false, 2000));
  int stopped = 0;
  CHECK(waitpid(pid, &stopped, WUNTRACED) == pid && WIFSTOPPED(stopped));
  signal_all(made->get());

  // Deep and broad below it: exec leaves, and what a container with a delegated cgroup can leave behind.
  auto above = cgroup_open(made->get(), "");
  for (int i = 0; i < 60; ++i) {
    auto below = cgroup_create(above->get(), "d");
    CHECK(below);
    if (!below) break;
    CHECK(cgroup_create(above->get(), "sibling"));
    above->reset(below->release());
  }
  CHECK(cgroup_destroy(root, name, 5000));
  CHECK(faccessat(root, name, F_OK, 0) != 0);
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  CHECK(cgroup_destroy(root, name, 5000));
  CHECK(cgroup_remove(root, "caisson-absent/x"));
  CHECK(!cgroup_events(made->get()));
  return test::done();
}
