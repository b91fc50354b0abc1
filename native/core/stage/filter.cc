// The seccomp filter, and its listener: seccomp(2), seccomp_unotify(2).
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "core/process_words.h"
#include "core/stage/stage.h"

namespace caisson {

namespace {

// Between the filter and its agent stands nobody who may still make a call: any that this process made could be one the
// filter forbids, or one that waits for the very agent. So a helper, cloned before the filter is loaded and sharing
// memory and descriptors, sends the listener on.
struct Messenger {
  Stage* stage = nullptr;
  int ready = 0;      // it runs as an ordinary process
  int listener = -1;  // set once it exists; -2: there is none
  int sent = 0;       // 1: done; 2: nobody took it
  alignas(16) char stack[16 * 1024];
};

void pause_briefly() {
  timespec t = {0, 20'000};
  nanosleep(&t, nullptr);
}

int carry(void* argument) {
  auto* messenger = static_cast<Messenger*>(argument);
  // The process cannot sleep while it waits for this one: with a real-time policy and a single CPU it would wait for
  // ever. What is ordinary gets the share that the kernel keeps for it (sched(7)). Refused to some that are ordinary.
  // A nice value below its own, which the real-time policy hides, would be refused to one without CAP_SYS_NICE.
  const int nice = getpriority(PRIO_PROCESS, 0);
  sys::sched_setattr({sizeof(uapi::SchedAttr), words::kSchedOther, 0, nice, 0, 0, 0, 0});
  __atomic_store_n(&messenger->ready, 1, __ATOMIC_RELEASE);
  int fd = -1;
  while ((fd = __atomic_load_n(&messenger->listener, __ATOMIC_ACQUIRE)) == -1) pause_briefly();
  GateReport message;
  message.kind = GateReport::kListener;
  const bool taken = fd < 0 || messenger->stage->try_report(message, fd);
  __atomic_store_n(&messenger->sent, taken ? 1 : 2, __ATOMIC_RELEASE);
  return 0;
}

}  // namespace

void load_filter(Stage& s) {
  span<const u64> program = s.plan->seccomp();
  if (program.empty()) return;
  s.at(Step::kSeccomp);
  uapi::SockFprog prog = {static_cast<u16>(program.size()), reinterpret_cast<const uapi::SockFilter*>(program.data())};
  const u32 flags = s.plan->process().seccomp_flags;
  if (s.plan->head().listener_path.length == 0) {
    s.check(sys::seccomp_filter(flags, prog));
    return;
  }
  s.at(Step::kSeccompListener);
  Messenger messenger;
  messenger.stage = &s;
  int pid = s.check(
      clone(carry, messenger.stack + sizeof messenger.stack, CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, &messenger));
  while (__atomic_load_n(&messenger.ready, __ATOMIC_ACQUIRE) == 0) pause_briefly();
  int listener = sys::seccomp_filter(flags | uapi::kSeccompFilterFlagNewListener, prog);
  int err = errno;
  __atomic_store_n(&messenger.listener, listener >= 0 ? listener : -2, __ATOMIC_RELEASE);
  while (__atomic_load_n(&messenger.sent, __ATOMIC_ACQUIRE) == 0) {
  }
  if (messenger.sent == 2) _exit(1);
  // By now the agent has the listener, and can let this call pass where the filter asks.
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  errno = err;
  s.check(listener);
}

}  // namespace caisson
