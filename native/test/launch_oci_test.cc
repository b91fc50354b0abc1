// What caisson-oci asks of births: a start by another process, hooks, descriptors that are handed on, the listener of a
// filter, a root in place.
#include <dirent.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/compile.h"
#include "core/hooks.h"
#include "core/memfd.h"
#include "core/process_words.h"
#include "test/launch.h"

using namespace caisson;
using namespace caisson::test;

namespace {

constexpr string_view kState = "{\"ociVersion\":\"1.3.0\",\"id\":\"x\",\"status\":\"creating\"}\n";

Fd state_memfd() {
  auto fd = sealed_memfd("state", {reinterpret_cast<const u8*>(kState.data()), kState.size()}, MemfdKind::kData);
  if (!fd) abort();
  return fd.take();
}

struct OciOptions {
  bool user = false;
  bool hold = false;
  bool no_pivot = false;
  int listener = -1;
  u32 preserve = 0;
};

PlanBuilder oci_container(World& w, const OciOptions& o, span<const char* const> args) {
  ContainerOptions c;
  c.overlay = false;
  c.shared = NamespaceMode::kNew;
  PlanBuilder b = container(w, c, args);
  if (o.user) {
    b.ns(NamespaceType::kUser).mode = NamespaceMode::kNew;
    b.add(Section::kUidMap, IdMapping{0, 0, 65536});
    b.add(Section::kGidMap, IdMapping{0, 0, 65536});
  }
  if (o.no_pivot) b.root().flags |= kRootNoPivot;
  return b;
}

void add_hook(PlanBuilder& b, HookKind kind, const char* script, const char* shell, u32 timeout = 0) {
  HookEntry hook;
  hook.kind = kind;
  hook.timeout = timeout;
  hook.path = b.string(shell);
  hook.first = b.count(Section::kHookTexts);
  for (const char* each : {"sh", "-c", script}) b.add_text(Section::kHookTexts, each);
  b.add_text(Section::kHookTexts, "HOOK=yes");
  hook.args = 3;
  hook.env = 1;
  b.add(Section::kHooks, hook);
  if (kind < HookKind::kStartContainer) b.root().flags |= kRootInPlace;
}

Run begin(World& w, const OciOptions& o, const PlanView& plan) {
  return start(plan, [&](int out) {
    Fd cgroup(open(w.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    BirthRequest request;
    request.plan = &plan;
    request.cgroup = cgroup.get();
    request.stdio[1] = request.stdio[2] = out;
    request.listener = o.listener;
    request.preserve = o.preserve;
    request.hold = o.hold;
    return begin_birth(request);
  });
}

// Until kHeld; failed when something else comes.
Run begin_held(World& w, const OciOptions& o, const PlanView& plan) {
  Run run;
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) abort();
  run.out = Fd(fds[0]);
  Fd in(fds[1]);
  Fd cgroup(open(w.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  BirthRequest request;
  request.plan = &plan;
  request.cgroup = cgroup.get();
  request.stdio[1] = request.stdio[2] = in.get();
  request.hold = o.hold;
  auto birth = begin_birth(request);
  if (!birth) {
    fprintf(stderr, "begin_birth: %s %s\n", birth.error().call, birth.error().object);
    run.failed = true;
    return run;
  }
  run.pid = birth->pid;
  run.pidfd = Fd(birth->pidfd.release());
  run.gate = Fd(birth->gate.release());
  fcntl(run.gate.get(), F_SETFL, 0);
  for (;;) {
    Fd passed;
    auto report = read_gate(run.gate.get(), passed);
    if (report && report->kind == GateReport::kChild) {
      run.reap(run.pidfd);
      run.pid = report->pid;
      run.pidfd = Fd(passed.release());
      continue;
    }
    if (report && report->kind == GateReport::kHeld) return run;
    run.failed = true;
    if (report && report->kind == GateReport::kFailed) run.error = describe_failure(plan, *report);
    return run;
  }
}

sockaddr_un address_of(const String& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

Fd listen_at(const String& path) {
  Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(fd.get(), 4) != 0)
    perror("listen"), abort();
  return fd;
}

Fd connect_to(const String& path) {
  Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return Fd();
  return fd;
}

void started_by_another(World& w, bool user) {
  const String path = concat(w.dir, user ? "/start-u" : "/start");
  OciOptions o;
  o.user = user;
  Fd listener = listen_at(path);
  o.listener = listener.get();
  constexpr const char* kArgs[] = {"sh", "-c", "echo started; ls /proc/self/fd"};
  PlanBuilder b = oci_container(w, o, kArgs);
  add_hook(b, HookKind::kStartContainer, "read line; echo \"hook $HOOK $PATH $line\" >/tmp/hook; sleep 0.1", "/bin/sh");
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = begin(w, o, plan.view());
  expect_ran(run, "listener");
  CHECK(release_gate(run.gate.get()));
  run.gate.reset();
  listener.reset();
  {  // a starter that dies before it says so starts nothing
    Fd lost = connect_to(path);
    CHECK(lost);
  }
  Fd state = state_memfd();
  Fd gate = connect_to(path);
  CHECK(gate);
  CHECK(release_gate(gate.get(), state.get()));
  run.gate = Fd(gate.release());
  CHECK(run.exec_done(plan.view()));
  end(run);
  CHECK(run.code == 0);
  CHECK(has(run.output, "started\n0\n1\n2\n3\n"));
  CHECK(!has(run.output, "\n4\n"));
  CHECK(!connect_to(path));
  const String seen = read_file(concat(w.dir, "/bind/tmp/hook").c_str());
  CHECK(seen.view().starts_with("hook yes "));
  CHECK(has(seen, "\"status\":\"creating\""));
  unlink(concat(w.dir, "/bind/tmp/hook").c_str());
  unlink(path.c_str());
}

void tells_the_starter(World& w) {
  const String path = concat(w.dir, "/start-fails");
  OciOptions o;
  Fd listener = listen_at(path);
  o.listener = listener.get();
  constexpr const char* kArgs[] = {"sh", "-c", "true"};
  PlanBuilder b = oci_container(w, o, kArgs);
  add_hook(b, HookKind::kStartContainer, "echo it is broken >&2; exit 3", "/bin/sh");
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = begin(w, o, plan.view());
  expect_ran(run, "a hook that fails");
  CHECK(release_gate(run.gate.get()));
  Fd state = state_memfd();
  run.gate = Fd(connect_to(path).release());
  CHECK(release_gate(run.gate.get(), state.get()));
  CHECK(!run.exec_done(plan.view()));
  if (run.error.message.view() != "startContainer hook #0 \"/bin/sh\": exit status 3: it is broken")
    fprintf(stderr, "%s\n", run.error.message.c_str());
  CHECK(run.error.message.view() == "startContainer hook #0 \"/bin/sh\": exit status 3: it is broken");
  end(run);
}

// A creator that is gone before it released the container leaves none.
void dies_with_its_creator(World& w) {
  const String path = concat(w.dir, "/start-orphan");
  OciOptions o;
  Fd listener = listen_at(path);
  o.listener = listener.get();
  constexpr const char* kArgs[] = {"sleep", "1000"};
  PlanMap plan = sealed(oci_container(w, o, kArgs));
  Run run = begin(w, o, plan.view());
  expect_ran(run, "orphan");
  run.gate.reset();
  run.reap(run.pidfd);
  CHECK(run.code == 1);
}

void held(World& w, bool user) {
  OciOptions o;
  o.user = user;
  constexpr const char* kArgs[] = {"sh", "-c", "cat /tmp/order; cat /proc/1/mountinfo | cut -d' ' -f5; ls /"};
  PlanBuilder b = oci_container(w, o, kArgs);
  const String root = concat(w.dir, "/bind");
  const String order = concat("echo createContainer >>", root, "/tmp/order; ls / >&2; ls ");
  String script(order.view());
  script.append(root).append("/proc/self/status && test -e /var/tmp && test $HOOK = yes");
  add_hook(b, HookKind::kCreateContainer, script.c_str(), "/bin/sh");
  add_hook(b, HookKind::kCreateRuntime, "grep -q creating && sleep 0.05; echo $HOOK; pwd; exit 0", "/bin/sh");
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));

  // never left out in silence
  Run refused = begin(w, o, plan.view());
  CHECK(refused.failed && refused.error.err == EINVAL);

  o.hold = true;
  Run run = begin_held(w, o, plan.view());
  expect_ran(run, "held");
  if (run.failed) return;
  // what a hook of the runtime's own namespace finds: the root at its path in the container's mount namespace
  String inside = concat("/proc/", "");
  inside.append_u64(static_cast<u64>(run.pid)).append("/root").append(root).append("/proc/1/cmdline");
  if (!user) CHECK(access(inside.c_str(), F_OK) == 0);
  CHECK(access(concat(root, "/proc/1/cmdline").c_str(), F_OK) != 0);
  Fd state = state_memfd();
  auto hooks = run_hooks(plan.view(), HookKind::kCreateRuntime, state.get(), -1);
  if (!hooks) fprintf(stderr, "%s\n", hooks.error().object);
  CHECK(hooks);
  CHECK(release_gate(run.gate.get(), state.get()));
  run.until_ready(plan.view());
  expect_ran(run, "after the hold");
  release(run, plan.view());
  end(run);
  CHECK(run.code == 0);
  CHECK(has(run.output, "createContainer\n"));
  CHECK(!has(run.output, w.dir.view()));
  CHECK(!has(run.output, "/boot"));
  unlink(concat(root, "/tmp/order").c_str());
}

void hooks_fail(World&) {
  PlanBuilder b(PlanKind::kHooks);
  add_hook(b, HookKind::kPoststop, "sleep 1000", "/bin/sh", 1);
  add_hook(b, HookKind::kPoststart, "kill -9 $$", "/bin/sh");
  add_hook(b, HookKind::kPrestart, "true", "/no/such/program");
  add_hook(b, HookKind::kPrestart, "exit 99", "/bin/sh");
  b.root().flags = 0;
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Fd state = state_memfd();
  auto text = [&](HookKind kind) {
    auto result = run_hooks(plan.view(), kind, state.get(), -1);
    return result ? String() : String(string_view(result.error().object));
  };
  CHECK(text(HookKind::kPoststop).view() == "poststop hook #0 \"/bin/sh\": killed after its time-out of 1 s");
  CHECK(text(HookKind::kPoststart).view() == "poststart hook #0 \"/bin/sh\": killed by signal 9");
  CHECK(text(HookKind::kPrestart).view() == "prestart hook #0 \"/no/such/program\": No such file or directory");
  CHECK(text(HookKind::kCreateRuntime).empty());
}

void hands_on_descriptors(World& w) {
  // 3 and 4, whatever this program has there
  int saved[2] = {fcntl(3, F_DUPFD_CLOEXEC, 10), fcntl(4, F_DUPFD_CLOEXEC, 10)};
  Fd file(open("/etc/hostname", O_RDONLY | O_CLOEXEC));
  dup2(file.get(), 3);
  dup2(file.get(), 4);
  OciOptions o;
  o.preserve = 2;
  constexpr const char* kArgs[] = {"sh", "-c", "readlink /proc/$$/fd/3; readlink /proc/$$/fd/4; ls /proc/$$/fd"};
  PlanMap plan = sealed(oci_container(w, o, kArgs));
  Run run = begin(w, o, plan.view());
  for (int i = 0; i < 2; ++i) {
    close(3 + i);
    if (saved[i] >= 0) dup2(saved[i], 3 + i), close(saved[i]);
  }
  expect_ran(run, "preserve");
  release(run, plan.view());
  end(run);
  // 5 is the directory that ls, which takes the shell's place, reads
  CHECK(run.output.view() == "/etc/hostname\n/etc/hostname\n0\n1\n2\n3\n4\n5\n");
}

// mkdir(2) is answered by an agent: it gets the listener although the filter asks about sendmsg(2) as well.
// `policy`: of its scheduler, on one CPU, where a real-time process that does not sleep lets nobody else run.
void listener(World& w, u32 policy) {
  OciOptions o;
  constexpr const char* kArgs[] = {"sh", "-c", "mkdir /tmp/x; echo $?"};
  PlanBuilder b = oci_container(w, o, kArgs);
  b.head().listener_path = b.string("/run/agent.sock");
  b.process().flags |= kProcessScheduler;
  b.process().scheduler.policy = policy;
  b.process().scheduler.priority = policy == words::kSchedFifo ? 1 : 0;
  b.add(Section::kCpusFinal, u64{1});
  struct Instruction {
    u16 code;
    u8 jt, jf;
    u32 k;
  };
  const Instruction program[] = {
      {0x20, 0, 0, 0},          {0x15, 0, 2, SYS_mkdir},   {0x06, 0, 0, 0x7fc00000},  // SECCOMP_RET_USER_NOTIF
      {0x06, 0, 0, 0x7fff0000}, {0x15, 0, 1, SYS_sendmsg}, {0x06, 0, 0, 0x00050001}, {0x06, 0, 0, 0x7fff0000}};
  // jf of the second instruction leads to the fifth
  for (const Instruction& each : program) {
    Instruction copy = each;
    if (copy.k == SYS_mkdir && copy.code == 0x15) copy.jf = 2;
    u64 word = 0;
    memcpy(&word, &copy, sizeof word);
    b.add(Section::kSeccomp, word);
  }
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = begin(w, o, plan.view());
  expect_ran(run, "listener of a filter");
  if (run.failed) return;
  CHECK(release_gate(run.gate.get()));
  pollfd told = {run.gate.get(), POLLIN, 0};
  if (poll(&told, 1, 20'000) != 1) {
    CHECK(!"the listener never came");
    sys::pidfd_send_signal(run.pidfd.get(), SIGKILL);
    return end(run);
  }
  Fd agent;
  auto report = read_gate(run.gate.get(), agent);
  CHECK(report && report->kind == GateReport::kListener && agent);
  Fd none;
  auto end_of_file = read_gate(run.gate.get(), none);
  CHECK(end_of_file && end_of_file->kind == 0);
  struct {
    u64 id;
    u32 pid, flags;
    struct {
      int nr;
      u32 arch;
      u64 ip, args[6];
    } data;
  } request = {};
  CHECK(ioctl(agent.get(), 0xc0502100, &request) == 0);  // SECCOMP_IOCTL_NOTIF_RECV
  CHECK(request.data.nr == SYS_mkdir);
  struct {
    u64 id;
    i64 value;
    i32 error;
    u32 flags;
  } answer = {request.id, 0, -ENOTEMPTY, 0};
  CHECK(ioctl(agent.get(), 0xc0182101, &answer) == 0);  // SECCOMP_IOCTL_NOTIF_SEND
  end(run);
  CHECK(has(run.output, "Directory not empty\n1\n"));
}

void without_pivot(World& w) {
  OciOptions o;
  o.no_pivot = true;
  constexpr const char* kArgs[] = {"sh", "-c", "ls /; cut -d' ' -f5 /proc/self/mountinfo; cd /..; pwd"};
  Run run = run_container(w, nullptr, oci_container(w, o, kArgs));
  expect_ran(run, "no pivot");
  CHECK(run.code == 0);
  CHECK(has(run.output, "bin\n") && has(run.output, "/dev/pts\n"));
  CHECK(!has(run.output, "/l\n"));
}

// A caller without privileges: its own id is the container's root.
void rootless(World& w) {
  constexpr u32 kUser = 12345;
  int pid = fork();
  if (pid == 0) {
    checks = failures = 0;
    if (sys::setgroups(0, nullptr) != 0 || sys::setresgid(kUser) != 0 || sys::setresuid(kUser) != 0) abort();
    sys::prctl(uapi::kPrSetDumpable, 1);
    constexpr const char* kArgs[] = {
        "sh", "-c", "id -u; cat /proc/self/uid_map; hostname; cut -d' ' -f5 /proc/1/mountinfo; echo $$"};
    ContainerOptions c;
    c.overlay = false;
    c.shared = NamespaceMode::kNew;
    c.tty_group = false;
    PlanBuilder b = container(w, c, kArgs);
    b.ns(NamespaceType::kUser).mode = NamespaceMode::kNew;
    b.add(Section::kUidMap, IdMapping{0, kUser, 1});
    b.add(Section::kGidMap, IdMapping{0, kUser, 1});
    b.head().hostname = b.string("rootless");
    b.process().flags |= kProcessOomScoreAdj;
    b.process().oom_score_adj = 100;
    const Run run = run_rootless(static_cast<PlanBuilder&&>(b));
    expect_ran(run, "rootless");
    CHECK(run.code == 0);
    CHECK(run.output.view().starts_with("0\n         0      12345          1\nrootless\n/\n"));
    if (failures != 0) fprintf(stderr, "%s\n", run.output.c_str());
    _exit(failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  CHECK(status == 0);
}

}  // namespace

int main() {
  return in_world([](World& w) {
    for (bool user : {false, true}) {
      started_by_another(w, user);
      held(w, user);
    }
    tells_the_starter(w);
    dies_with_its_creator(w);
    hooks_fail(w);
    hands_on_descriptors(w);
    for (u32 policy : {words::kSchedOther, words::kSchedFifo}) {
      for (int nice : {0, 5}) {
        CHECK(setpriority(PRIO_PROCESS, 0, nice) == 0);
        listener(w, policy);
      }
      CHECK(setpriority(PRIO_PROCESS, 0, 0) == 0);
    }
    without_pivot(w);
    rootless(w);
  });
}
