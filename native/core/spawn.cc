#include "core/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/sys.h"

namespace caisson {
namespace {

constexpr size_t kStackSize = 64 * 1024;
constexpr size_t kGuardSize = 64 * 1024;  // a multiple of every page size in use
constexpr u64 kAllSignals = ~u64{0};

// A raw system call that leaves errno alone: the child shares the TLS block, and so errno, with its parent.
long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
#else
#error "spawn: this architecture needs its system call sequence"
#endif
}

// What parent and child share. Written by the child only, read by the parent once CLONE_VFORK lets it go on.
struct Shared {
  const SpawnRequest* request;
  int* fds;  // copy of request->fds that the child may change
  u64 mask;
  long error = 0;  // negative errno
  const char* call = nullptr;
};

[[noreturn]] void fail(Shared* shared, const char* call, long error) {
  shared->call = call;
  shared->error = error;
  for (;;) raw(SYS_exit_group, 127);
}

// Runs in the child, on its own stack, in the parent's memory: raw system calls only, no allocation, no errno, no lock.
[[noreturn]] void child(Shared* shared) {
  const SpawnRequest& request = *shared->request;
  int count = static_cast<int>(request.fds.size());
  int* fds = shared->fds;
  int exe = request.exe;
  if (request.new_session) {
    long r = raw(SYS_setsid);
    if (r < 0) fail(shared, "setsid", r);
  }
  // A source below `count` that belongs elsewhere would be overwritten: it is moved out of the way first.
  auto lift = [&](int fd) {
    long r = raw(SYS_fcntl, fd, F_DUPFD_CLOEXEC, count);
    if (r < 0) fail(shared, "fcntl", r);
    return static_cast<int>(r);
  };
  if (exe < count) exe = lift(exe);
  for (int i = 0; i < count; ++i) {
    if (fds[i] < 0) {
      long r = raw(SYS_openat, AT_FDCWD, reinterpret_cast<long>("/dev/null"), O_RDWR | O_CLOEXEC);
      if (r < 0) fail(shared, "openat", r);
      fds[i] = static_cast<int>(r);
    }
    if (fds[i] < count && fds[i] != i) fds[i] = lift(fds[i]);
  }
  for (int i = 0; i < count; ++i) {
    // dup3 refuses equal numbers; F_SETFD clears close-on-exec of what is already in place
    long r = fds[i] == i ? raw(SYS_fcntl, i, F_SETFD, 0) : raw(SYS_dup3, fds[i], i, 0);
    if (r < 0) fail(shared, fds[i] == i ? "fcntl" : "dup3", r);
  }
  // Marked, not closed: the executable is still needed, and a failed exec must not have closed anything. Covers what
  // other addons opened without O_CLOEXEC.
  constexpr long kCloseRangeCloexec = 4;
  long closed = raw(uapi::kSysCloseRange, count, -1, kCloseRangeCloexec);
  if (closed < 0) fail(shared, "close_range", closed);
  u64 none = 0;
  raw(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&none), 0, sizeof none);
  long r = raw(SYS_execveat, exe, reinterpret_cast<long>(""), reinterpret_cast<long>(request.argv),
               reinterpret_cast<long>(request.envp), uapi::kAtEmptyPath);
  fail(shared, "execveat", r);
}

// clone3 whose child never returns into a frame of its parent: it calls `entry` on the stack of `args`.
long clone3_call(uapi::CloneArgs* args, void (*entry)(Shared*), Shared* shared) {
#if defined(__x86_64__)
  long result;
  register void (*r12)(Shared*) __asm__("r12") = entry;
  register Shared* r13 __asm__("r13") = shared;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r13, %%rdi\n\t"
      "call *%%r12\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      : "a"(uapi::kSysClone3), "D"(args), "S"(sizeof *args), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = uapi::kSysClone3;
  register long x0 __asm__("x0") = reinterpret_cast<long>(args);
  register long x1 __asm__("x1") = sizeof *args;
  register void (*x9)(Shared*) __asm__("x9") = entry;
  register Shared* x10 __asm__("x10") = shared;
  __asm__ volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x0, x10\n\t"
      "blr x9\n\t"
      "brk 0\n"
      "1:"
      : "+r"(x0)
      : "r"(x8), "r"(x1), "r"(x9), "r"(x10)
      : "memory");
  return x0;
#endif
}

// The stack of a child, with a guard below it. CLONE_VFORK makes it safe to unmap: the child has left it when clone3
// returns.
class Stack {
 public:
  ~Stack() {
    if (base_ != nullptr) munmap(base_, kGuardSize + kStackSize);
  }
  Result<char*> usable() {
    if (base_ == nullptr) {
      void* p = mmap(nullptr, kGuardSize + kStackSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) return Error::last("mmap", "stack of a child");
      if (mprotect(static_cast<char*>(p) + kGuardSize, kStackSize, PROT_READ | PROT_WRITE) != 0) {
        Error error = Error::last("mprotect", "stack of a child");
        munmap(p, kGuardSize + kStackSize);
        return error;
      }
      base_ = static_cast<char*>(p);
    }
    return base_ + kGuardSize;
  }

 private:
  char* base_ = nullptr;
};

}  // namespace

Result<Spawned> spawn(const SpawnRequest& request) {
  if (request.fds.size() > kSpawnFdsMax) return Error(E2BIG, "spawn", "descriptors");
  if (request.argv == nullptr || request.argv[0] == nullptr) return Error(EINVAL, "spawn", "argv");
  // Per call, not per thread: a thread_local destructor would need libstdc++. The mapping costs about 5 us.
  Stack stack;
  char* base = CAISSON_TRY(stack.usable());
  int fds[kSpawnFdsMax];
  for (size_t i = 0; i < request.fds.size(); ++i) fds[i] = request.fds[i];
  Shared shared{&request, fds, 0, 0, nullptr};

  int pidfd = -1;
  uapi::CloneArgs args{};
  args.flags = uapi::kCloneVm | uapi::kCloneVfork | uapi::kClonePidfd | uapi::kCloneClearSighand;
  args.pidfd = reinterpret_cast<u64>(&pidfd);
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<u64>(base);
  args.stack_size = kStackSize;
  if (request.cgroup >= 0) {
    args.flags |= uapi::kCloneIntoCgroup;
    args.cgroup = static_cast<u64>(request.cgroup);
  }
  // Raw, since the C library's functions leave out the signals that its threads use. A handler that ran in the child
  // before exec would run in the parent's memory.
  raw(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&kAllSignals), reinterpret_cast<long>(&shared.mask),
      sizeof(u64));
  long pid = clone3_call(&args, child, &shared);
  raw(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&shared.mask), 0, sizeof(u64));
  if (pid < 0) return Error(static_cast<int>(-pid), "clone3");

  Spawned spawned{static_cast<int>(pid), Fd(pidfd)};
  if (shared.error != 0) {
    siginfo_t info{};
    while (waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pidfd), &info, WEXITED | __WALL) != 0 &&
           errno == EINTR) {
    }
    return Error(static_cast<int>(-shared.error), shared.call, request.argv[0]);
  }
  return spawned;
}

Result<Exit> reap(int pidfd) {
  siginfo_t info{};
  while (waitid(static_cast<idtype_t>(uapi::kPPidfd), static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG | __WALL) !=
         0) {
    if (errno != EINTR) return Error::last("waitid");
  }
  Exit exit;
  if (info.si_pid == 0) return exit;
  exit.exited = true;
  if (info.si_code == CLD_EXITED)
    exit.code = info.si_status;
  else
    exit.signal = info.si_status;
  return exit;
}

Status send_signal(int pidfd, int signal) {
  if (sys::pidfd_send_signal(pidfd, signal) != 0) return Error::last("pidfd_send_signal");
  return ok();
}

Result<Fd> open_pidfd(int pid) {
  Fd fd(sys::pidfd_open(pid));
  if (!fd) return Error::last("pidfd_open");
  return fd;
}

}  // namespace caisson
