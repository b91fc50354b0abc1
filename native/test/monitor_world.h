// The real static monitor, driven over its real socket: a directory and a cgroup for it, pods, containers, and how a
// program runs its tests.
#pragma once

#include <sys/prctl.h>

#include "test/monitor_client.h"

namespace caisson::test {

inline constexpr string_view kPodId = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

inline String container_id(u32 n) {
  char text[65];
  snprintf(text, sizeof text, "%064x", n);
  return String(text);
}

inline const char* monitor_path;
inline const char* skipped;  // why the test that runs could not

// What every test shares: a directory with a busybox root, a cgroup to put containers in.
struct World {
  char path[40] = "/tmp/caisson-monitor-XXXXXX";
  Fd directory;
  CgroupMount cgroup_mount;
  char cgroup_name[40];
  Fd cgroup;

  void make(CgroupMount mount) {
    cgroup_mount = static_cast<CgroupMount&&>(mount);
    CHECK(mkdtemp(path) != nullptr);
    CHECK(chmod(path, 0755) == 0);  // a container's root on the host, uid 100000, passes through
    directory.reset(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    snprintf(cgroup_name, sizeof cgroup_name, "caisson-monitor-test-%d", getpid());
    auto made = cgroup_create(cgroup_mount.dir.get(), cgroup_name);
    CHECK(made);
    cgroup = made.take();
    char command[400];
    snprintf(
        command, sizeof command,
        "cd %s && mkdir -p logs root/bin root/proc root/dev root/sys root/tmp root/etc && cp /bin/busybox root/bin/ && "
        "for a in sh echo sleep cat seq pgrep kill true false yes head printf rm touch stty tty; do ln -s busybox "
        "root/bin/$a; done "
        "&& printf 'root:x:0:0:root:/root:/bin/sh\\n' >root/etc/passwd && printf 'root:x:0:\\n' >root/etc/group",
        path);
    CHECK(system(command) == 0);
  }
  void destroy() {
    CHECK(cgroup_destroy(cgroup_mount.dir.get(), cgroup_name, 2000));
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", path);
    CHECK(system(command) == 0);
  }
};
inline World world;

inline Result<Fd> sealed_plan(Result<Compiled> compiled, string_view build) {
  if (!compiled) {
    fprintf(stderr, "compile: %s\n", compiled.error().object);
    return compiled.error();
  }
  // This test and the monitor may stem from two builds of the same sources.
  memcpy(reinterpret_cast<PlanHeader*>(compiled->plan.data())->build, build.data(), 16);
  return sealed_memfd("plan", span<const u8>(compiled->plan.data(), compiled->plan.size()), MemfdKind::kData);
}

struct Pod {
  pid_t pid = -1;
  Fd state;
  char name[24];
  String build;
  u32 number;

  explicit Pod(const char* executable = monitor_path) {
    static u32 pods;
    number = ++pods;
    snprintf(name, sizeof name, "pod-%u", number);
    CHECK(mkdirat(world.directory.get(), name, 0700) == 0);
    state.reset(openat(world.directory.get(), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int ready[2];
    CHECK(pipe2(ready, O_CLOEXEC) == 0);
    Fd hear(ready[0]), say(ready[1]);
    Fd log(openat(state.get(), "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    pid = fork();
    if (pid == 0) {
      int null = open("/dev/null", O_RDWR);
      int wanted[] = {null, null, log.get(), state.get(), say.get()};
      for (int i = 0; i < 5; ++i) wanted[i] = fcntl(wanted[i], F_DUPFD, 50);
      for (int i = 0; i < 5; ++i) dup2(wanted[i], i);
      execl(executable, "caisson-monitor", "--pod", kPodId.data(), nullptr);
      _exit(127);
    }
    say.reset();
    char line[8] = {};
    CHECK(read(hear.get(), line, sizeof line) == 6 && strcmp(line, "ready\n") == 0);
  }
  ~Pod() {
    if (pid > 0) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    if (getenv("CAISSON_TEST_VERBOSE") != nullptr) fputs(read_at(state.get(), "log").c_str(), stderr);
  }
  // Exit status of the monitor, -1 when it does not end.
  int wait() {
    int status = -1;
    if (!eventually([&] { return waitpid(pid, &status, WNOHANG) == pid; })) return -1;
    pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  Client connect(bool owner = true, string_view lease = "detached") {
    Client client(state.get());
    CHECK(client.connected());
    String hello;
    hello.append("{\"owner\":").append(owner ? "true" : "false").append(",\"lease\":\"").append(lease).append("\"}");
    auto reply = client.call(FrameType::kHello, hello);
    CHECK(reply.ok());
    auto json = reply.json();
    CHECK(json.root()["pod"].string_or("") == kPodId);
    CHECK(json.root()["pid"].i64_or(0) == pid);
    build = String(json.root()["buildId"].string_or(""));
    CHECK(build.size() == 16);
    return client;
  }
  bool setup(Client& client, string_view pid_namespace = "container", string_view user = "null") {
    String text;
    text.append("{\"id\":\"")
        .append(kPodId)
        .append(
            "\",\"hostname\":\"web-0\",\"namespaces\":{\"network\":\"pod\",\"ipc\":\"pod\",\"uts\":\"pod\",\"pid\":\"");
    text.append(pid_namespace).append("\",\"user\":").append(user).append("},\"sysctl\":{},\"shmSize\":67108864}");
    auto plan = sealed_plan(compile_pod(text), build);
    CHECK(plan);
    auto reply = client.call(FrameType::kPodSetup, "{}", {plan->get()});
    if (!reply.ok()) fprintf(stderr, "pod.setup: %s\n", reply.text.c_str());
    CHECK(reply.ok());
    return reply.ok();
  }
};

inline String quoted(string_view s) {
  String out;
  JsonWriter(out).value(s);
  return out;
}

struct Wish {
  bool terminal = false;
  bool shared_pid = false;      // the pod's PID namespace
  bool user_namespace = false;  // the pod's
  const char* program = "/bin/sh";
  u64 memory = 0;            // limit in bytes
  const char* devices = "";  // members of `linux`
};

// A container that runs `sh -c script`.
inline Result<Fd> container_plan(string_view build, string_view script, Wish wish = {}) {
  String text;
  text.append("{\"spec\":{\"ociVersion\":\"1.3.0\",\"process\":{\"terminal\":")
      .append(wish.terminal ? "true" : "false");
  text.append(",\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"")
      .append(wish.program)
      .append("\",\"-c\",")
      .append(quoted(script));
  text.append("],\"env\":[\"PATH=/bin\"],\"cwd\":\"/\"},\"root\":{\"path\":\"").append(world.path).append("/root\"},");
  text.append(
      "\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
      "{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\"]},"
      "{\"destination\":\"/dev/"
      "pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"newinstance\",\"ptmxmode=0666\"]}],"
      "\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"network\",\"path\":\"caisson:pod\"},"
      "{\"type\":\"ipc\",\"path\":\"caisson:pod\"},{\"type\":\"uts\",\"path\":\"caisson:pod\"},{\"type\":\"pid\"");
  if (wish.shared_pid) text.append(",\"path\":\"caisson:pod\"");
  text.append("}");
  if (wish.user_namespace) text.append(",{\"type\":\"user\",\"path\":\"caisson:pod\"}");
  text.append("]");
  if (wish.memory != 0) text.append(",\"resources\":{\"memory\":{\"limit\":").append_u64(wish.memory).append("}}");
  text.append(wish.devices);
  text.append("}},\"volumes\":[],\"controllers\":[").append(wish.memory != 0 ? "\"memory\"" : "");
  text.append("],\"missingController\":\"error\"}");
  return sealed_plan(compile_container(text), build);
}

inline Result<Fd> exec_plan(string_view build, string_view script) {
  String text;
  text.append("{\"process\":{\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"/bin/sh\",\"-c\",").append(quoted(script));
  text.append("],\"env\":[\"PATH=/bin\"],\"cwd\":\"/\"}}");
  return sealed_plan(compile_exec(text), build);
}

struct Container {
  String id;
  char cgroup_name[100];
  char log_name[24];
  char record_name[24];
  Fd record;

  explicit Container(u32 n) : id(container_id(n)) {
    snprintf(cgroup_name, sizeof cgroup_name, "crio-caisson-%s", id.c_str());
    snprintf(log_name, sizeof log_name, "%u.log", n);
    snprintf(record_name, sizeof record_name, "exit-%u", n);
    record.reset(openat(world.directory.get(), record_name, O_RDWR | O_CREAT | O_CLOEXEC | O_TRUNC, 0600));
    CHECK(posix_fallocate(record.get(), 0, 4096) == 0);
  }
  String one() const { return with_id("{\"id\":\"@\"}", id); }
  String request(const Wish& wish = {}) const {
    String text;
    text.append("{\"id\":\"").append(id).append("\",\"cgroupName\":\"").append(cgroup_name).append("\",\"logName\":\"");
    text.append(log_name).append("\",\"terminal\":").append(wish.terminal ? "true" : "false");
    text.append(",\"stdin\":false,\"stdinOnce\":false,\"targetId\":null,\"stopSignal\":15}");
    return text;
  }
  Reply create(Client& client, string_view build, string_view script, Wish wish = {}) {
    auto plan = container_plan(build, script, wish);
    CHECK(plan);
    if (!plan) return Reply();
    Fd logs(openat(world.directory.get(), "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    auto reply = client.call(FrameType::kContainerCreate, request(wish),
                             {plan->get(), world.cgroup.get(), record.get(), logs.get()});
    if (!reply.ok() && getenv("CAISSON_TEST_VERBOSE") != nullptr)
      fprintf(stderr, "container.create: %s\n", reply.text.c_str());
    return reply;
  }
  bool run(Client& client, string_view build, string_view script, Wish wish = {}) {
    bool created = create(client, build, script, wish).ok();
    CHECK(created);
    auto started = client.call(FrameType::kContainerStart, one());
    if (!started.ok()) fprintf(stderr, "container.start: %s\n", started.text.c_str());
    CHECK(started.ok());
    return created && started.ok();
  }
  // The contents of the log without its time stamps.
  String log() const {
    char path[40];
    snprintf(path, sizeof path, "logs/%s", log_name);
    String raw = read_at(world.directory.get(), path), out;
    for (string_view rest = raw; !rest.empty();) {
      size_t end = rest.find('\n');
      if (end == string_view::npos || end < 31) return String("torn");
      out.append(rest.substr(31, end + 1 - 31));
      rest.remove_prefix(end + 1);
    }
    return out;
  }
  bool cgroup_exists() const { return exists_at(world.cgroup.get(), cgroup_name); }
};

inline String state_of(Client& client, string_view id) {
  auto reply = client.call(FrameType::kList);
  if (!reply.ok()) return String("no answer");
  auto json = reply.json();
  const JsonValue& list = json.root()["containers"];
  for (u32 i = 0; i < list.size(); ++i)
    if (list.at(i)["id"].string_or("") == id) return String(list.at(i)["state"].string_or(""));
  return String("absent");
}

struct ExecReply {
  Reply reply;
  i64 code = -1;
  bool timed_out = false;
  String out, err;
  u64 out_size = 0;
};

inline ExecReply exec(Client& client, Pod& pod, const Container& c, string_view script, u32 timeout_ms = 0,
                      u64 limit = 1 << 20) {
  ExecReply result;
  auto plan = exec_plan(pod.build, script);
  CHECK(plan);
  String text;
  text.append("{\"id\":\"")
      .append(c.id)
      .append("\",\"timeoutMs\":")
      .append_u64(timeout_ms)
      .append(",\"limit\":")
      .append_u64(limit)
      .append('}');
  result.reply = client.call(FrameType::kExec, text, {plan->get()});
  if (!result.reply.ok()) return result;
  auto json = result.reply.json();
  result.code = json.root()["exitCode"].i64_or(-1);
  result.timed_out = json.root()["timedOut"].bool_or(false);
  result.out_size = json.root()["stdoutSize"].u64_or(0);
  CHECK(result.reply.fds.count == 2);
  result.out = result.reply.content(0);
  result.err = result.reply.content(1);
  return result;
}

// The monitor of another build: the same program with another build id, kOtherBuild.
inline constexpr string_view kOtherBuild = "fedcba9876543210";
inline Result<Fd> other_build(const Pod& pod) {
  String program = read_at(AT_FDCWD, monitor_path);
  const size_t at = program.view().find(pod.build.view());
  if (at == string_view::npos) return Error(ENOENT, "find", "the build id in the program");
  String patched;
  patched.append(program.view().substr(0, at))
      .append(kOtherBuild)
      .append(program.view().substr(at + kOtherBuild.size()));
  return sealed_memfd("monitor", {reinterpret_cast<const u8*>(patched.c_str()), patched.size()},
                      MemfdKind::kExecutable);
}

struct MonitorTest {
  const char* name;
  void (*run)();
};

// main of a test program: [path of caisson-monitor], by default $CAISSON_MONITOR, else build/Release/caisson-monitor.
// $CAISSON_TEST_ONLY runs the tests whose names hold it. 77: not possible here.
inline int run_monitor_tests(int argc, char** argv, span<const MonitorTest> tests) {
  monitor_path = argc > 1 ? argv[1] : getenv("CAISSON_MONITOR");
  if (monitor_path == nullptr) monitor_path = "build/Release/caisson-monitor";
  auto mount = find_cgroup_mount();
  if (geteuid() != 0 || !mount || access(monitor_path, X_OK) != 0 || access("/bin/busybox", X_OK) != 0) {
    printf("skipped: needs root, a mount of cgroup2, /bin/busybox and %s\n", monitor_path);
    return 77;
  }
  setlinebuf(stdout);
  world.make(mount.take());
  const char* only = getenv("CAISSON_TEST_ONLY");
  for (const MonitorTest& t : tests) {
    if (only != nullptr && strstr(t.name, only) == nullptr) continue;
    int before = failures;
    skipped = nullptr;
    t.run();
    if (skipped != nullptr)
      printf("skipped %s: %s\n", t.name, skipped);
    else
      printf("%s %s\n", failures == before ? "ok" : "NOT OK", t.name);
  }
  world.destroy();
  return done();
}

}  // namespace caisson::test
