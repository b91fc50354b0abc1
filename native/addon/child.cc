// spawn(): a program as a child, its exit as a promise. The pidfd is polled by libuv: no thread, no SIGCHLD.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/instance.h"
#include "addon/job.h"
#include "addon/native_fd.h"
#include "core/spawn.h"

namespace caisson {
namespace {

constexpr size_t kStringsMax = 4096;

class Child : public Napi::ObjectWrap<Child> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Child",
                       {InstanceAccessor<&Child::pid>("pid"), InstanceAccessor<&Child::exited>("exited"),
                        InstanceMethod<&Child::kill>("kill"), InstanceMethod<&Child::kill_group>("killGroup"),
                        InstanceMethod<&Child::ref>("ref"), InstanceMethod<&Child::unref>("unref")});
  }

  explicit Child(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Child>(info),
        context_(info.Env(), "caisson.Child"),
        exit_(Napi::Promise::Deferred::New(info.Env())) {
    Spawned* spawned = info[0].As<Napi::External<Spawned>>().Data();
    poll_ = Poll::create(info.Env(), spawned->pidfd.get(), this, &Child::ready);
    pid_ = spawned->pid;
    pidfd_ = static_cast<Fd&&>(spawned->pidfd);
    promise_ = Napi::Persistent(exit_.Promise().As<Napi::Object>());
    poll_->start(UV_READABLE);
    Ref();  // alive until it has exited: somebody may hold only the promise
  }

 private:
  static void ready(void* self, int, int) {
    Child* child = static_cast<Child*>(self);
    Napi::Env env = child->Env();
    Result<Exit> exit = reap(child->pidfd_.get());
    if (exit && !exit->exited) return;
    child->poll_->close();
    child->poll_ = nullptr;
    child->pidfd_.reset();
    from_event_loop(env, child->context_, [&] {
      if (!exit) return child->exit_.Reject(make_error(env, exit.error()).Value());
      Napi::Object status = Napi::Object::New(env);
      bool signalled = exit->signal != 0;
      status.Set("code", signalled ? env.Null() : Napi::Number::New(env, exit->code));
      status.Set("signal", signalled ? Napi::Number::New(env, exit->signal) : env.Null());
      child->exit_.Resolve(status);
    });
    child->Unref();
  }

  Napi::Value pid(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), pid_); }
  Napi::Value exited(const Napi::CallbackInfo&) { return promise_.Value(); }
  // After the exit nothing is left to signal: harmless, as it is with Node's own children.
  void kill(const Napi::CallbackInfo& info) {
    int signal = static_cast<int>(integer_argument(info[0], "signal", 0, 64));
    if (poll_ == nullptr) return;
    Status sent = send_signal(pidfd_.get(), signal);
    if (!sent && sent.error().err != ESRCH) throw make_error(info.Env(), sent.error());
  }
  // The number of the group is the child's own until it is reaped; afterwards it may be anybody's.
  void kill_group(const Napi::CallbackInfo& info) {
    int signal = static_cast<int>(integer_argument(info[0], "signal", 0, 64));
    if (poll_ == nullptr) return;
    if (::kill(-pid_, signal) != 0 && errno != ESRCH) throw make_error(info.Env(), Error::last("kill"));
  }
  void ref(const Napi::CallbackInfo&) {
    if (poll_ != nullptr) poll_->ref();
  }
  void unref(const Napi::CallbackInfo&) {
    if (poll_ != nullptr) poll_->unref();
  }

  Napi::AsyncContext context_;
  Napi::Promise::Deferred exit_;
  Napi::ObjectReference promise_;
  Poll* poll_ = nullptr;
  Fd pidfd_;
  int pid_ = 0;
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

Napi::Value spawn_child(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "spawn(options)");
  Napi::Object options = info[0].As<Napi::Object>();
  std::vector<std::string> argv = strings_argument(options.Get("argv"), "argv", kStringsMax);
  std::vector<std::string> environment = strings_argument(options.Get("env"), "env", kStringsMax);
  std::vector<int> fds = fds_argument(options.Get("fds"), "fds", kSpawnFdsMax);
  std::vector<char*> argv_pointers = pointers(argv), env_pointers = pointers(environment);
  SpawnRequest request;
  request.exe = fd_argument(options.Get("exe"), "exe");
  request.argv = argv_pointers.data();
  request.envp = env_pointers.data();
  request.fds = fds;
  if (!options.Get("cgroup").IsUndefined()) request.cgroup = fd_argument(options.Get("cgroup"), "cgroup");
  request.new_session = options.Get("session").ToBoolean();
  Spawned spawned = value_of(env, spawn(request));
  int pidfd = spawned.pidfd.get();
  try {
    return Instance::of(env).child.New({Napi::External<Spawned>::New(env, &spawned)});
  } catch (const Napi::Error&) {
    // The object could not be made, so it has not taken the descriptor: the child is ours to end.
    if (spawned.pidfd) (void)send_signal(pidfd, 9);
    throw;
  }
}

// A pipe(7) whose reading end is libuv's to poll, and whose writing end is a child's.
Napi::Value make_pipe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw make_error(env, Error::last("pipe2"));
  Fd reader(ends[0]), writer(ends[1]);
  if (fcntl(reader.get(), F_SETFL, O_NONBLOCK) != 0) throw make_error(env, Error::last("fcntl", "pipe"));
  Napi::Object out = Napi::Object::New(env);
  out.Set("reader", native_fd(env, static_cast<Fd&&>(reader)));
  out.Set("writer", native_fd(env, static_cast<Fd&&>(writer)));
  return out;
}

// A pidfd for waiting and signalling, of a process that need not be a child.
Napi::Value pidfd_open(const Napi::CallbackInfo& info) {
  int pid = static_cast<int>(integer_argument(info[0], "pid", 1, INT32_MAX));
  return native_fd(info.Env(), value_of(info.Env(), open_pidfd(pid)));
}

void pidfd_send_signal(const Napi::CallbackInfo& info) {
  int fd = fd_argument(info[0], "fd");
  value_of(info.Env(), send_signal(fd, static_cast<int>(integer_argument(info[1], "signal", 0, 64))));
}

}  // namespace

void init_child(Napi::Env env, Napi::Object exports) {
  Instance::of(env).child = Napi::Persistent(Child::define(env));
  exports.Set("spawn", Napi::Function::New(env, spawn_child, "spawn"));
  exports.Set("pipe", Napi::Function::New(env, make_pipe, "pipe"));
  exports.Set("pidfdOpen", Napi::Function::New(env, pidfd_open, "pidfdOpen"));
  exports.Set("pidfdSendSignal", Napi::Function::New(env, pidfd_send_signal, "pidfdSendSignal"));
}

}  // namespace caisson
