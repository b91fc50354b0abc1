// The real static monitor, driven over its real socket; needs root and a mount of cgroup2.
//   monitor_test [path of caisson-monitor]      default: $CAISSON_MONITOR, else build/Release/caisson-monitor
#include <sys/prctl.h>

#include "test/monitor_client.h"

using namespace caisson;
using namespace caisson::test;

namespace {

constexpr string_view kPodId = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

String container_id(u32 n) {
  char text[65];
  snprintf(text, sizeof text, "%064x", n);
  return String(text);
}

const char* monitor_path;
const char* skipped;  // why the test that runs could not

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
} world;

Result<Fd> sealed_plan(Result<Compiled> compiled, string_view build) {
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

String quoted(string_view s) {
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
Result<Fd> container_plan(string_view build, string_view script, Wish wish = {}) {
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

Result<Fd> exec_plan(string_view build, string_view script) {
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

String state_of(Client& client, string_view id) {
  auto reply = client.call(FrameType::kList);
  if (!reply.ok()) return String("no answer");
  auto json = reply.json();
  const JsonValue& list = json.root()["containers"];
  for (u32 i = 0; i < list.size(); ++i)
    if (list.at(i)["id"].string_or("") == id) return String(list.at(i)["state"].string_or(""));
  return String("absent");
}

void lives_and_dies() {
  Pod pod;
  struct stat st;
  CHECK(fstatat(pod.state.get(), "control", &st, 0) == 0 && (st.st_mode & 07777) == 0600);
  Client client = pod.connect();
  Container early(90);
  CHECK(!early.create(client, pod.build, "true").ok());  // no pod yet
  CHECK(!early.cgroup_exists());
  if (!pod.setup(client)) return;
  Container c(1);
  auto created = c.create(client, pod.build, "echo out; echo err >&2; printf half; exit 7");
  CHECK(created.ok());
  auto json = created.json();
  CHECK(json.root()["pid"].i64_or(0) > 1);
  CHECK(json.root()["uid"].i64_or(-1) == 0);
  CHECK(state_of(client, c.id).view() == "created");
  CHECK(c.log().empty());
  CHECK(!c.create(client, pod.build, "true").ok());  // EEXIST
  auto started = client.call(FrameType::kContainerStart, c.one());
  CHECK(started.ok());
  CHECK(!client.call(FrameType::kContainerStart, c.one()).ok());
  auto event = client.event(FrameType::kEventExit);
  CHECK(event.arrived);
  auto exit = event.json();
  CHECK(exit.root()["id"].string_or("") == c.id.view());
  CHECK(exit.root()["exitCode"].i64_or(-1) == 7);
  CHECK(exit.root()["signal"].i64_or(-1) == 0);
  String log = c.log();
  CHECK(log.view().find("stdout F out\n") != string_view::npos);
  CHECK(log.view().find("stderr F err\n") != string_view::npos);
  CHECK(log.view().find("stdout P half\n") != string_view::npos);
  // The record says the same as the event.
  char record[4096];
  CHECK(pread(c.record.get(), record, sizeof record, 0) == sizeof record);
  string_view line(record, strlen(record));
  auto parsed = JsonDocument::parse(line);
  CHECK(parsed && !line.empty() && line.back() == '\n');
  CHECK(parsed && parsed->root()["v"].i64_or(0) == 1 && parsed->root()["exitCode"].i64_or(-1) == 7);
  CHECK(parsed && parsed->root()["finishedAt"].string_or("") == exit.root()["finishedAt"].string_or("-"));
  CHECK(state_of(client, c.id).view() == "exited");
  CHECK(eventually([&] { return !c.cgroup_exists(); }));
  auto exits = client.call(FrameType::kExits);
  auto list = exits.json();
  CHECK(list.root()["exits"].size() == 1 && list.root()["exits"].at(0)["exitCode"].i64_or(-1) == 7);
  CHECK(client.call(FrameType::kContainerRemove, c.one()).ok());
  CHECK(state_of(client, c.id).view() == "absent");
  CHECK(client.call(FrameType::kShutdown).ok());
  CHECK(pod.wait() == 0);
  CHECK(!exists_at(pod.state.get(), "control"));
}

void logs_every_line() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(2);
  c.run(client, pod.build, "seq 1 1000");
  CHECK(client.event(FrameType::kEventExit).arrived);
  // EXITED is told after the log is on disk: no waiting here.
  String expected;
  for (u32 i = 1; i <= 1000; ++i) expected.append("stdout F ").append_u64(i).append('\n');
  CHECK(c.log().view() == expected.view());
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

void reopens_the_log() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(3);
  c.run(client, pod.build, "i=0; while true; do echo $i; i=$((i+1)); sleep 0.02; done");
  CHECK(eventually([&] { return c.log().size() > 20; }));
  Fd logs(openat(world.directory.get(), "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(renameat(logs.get(), c.log_name, logs.get(), "3.old") == 0);
  CHECK(client.call(FrameType::kLogReopen, c.one()).ok());
  String old = read_at(logs.get(), "3.old");
  CHECK(eventually([&] { return c.log().size() > 20; }));
  CHECK(read_at(logs.get(), "3.old").view() == old.view());
  CHECK(client.call(FrameType::kKill, with_id("{\"container\":\"@\"}", c.id)).ok());
  auto event = client.event(FrameType::kEventExit);
  auto exit = event.json();
  CHECK(exit.root()["exitCode"].i64_or(0) == 137 && exit.root()["signal"].i64_or(0) == 9);
  CHECK(!client.call(FrameType::kLogReopen, c.one()).ok());  // not running
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

struct ExecReply {
  Reply reply;
  i64 code = -1;
  bool timed_out = false;
  String out, err;
  u64 out_size = 0;
};
ExecReply exec(Client& client, Pod& pod, const Container& c, string_view script, u32 timeout_ms = 0,
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

// Processes of the container's cgroup and of those below it.
int population(const Container& c) {
  char command[200];
  snprintf(command, sizeof command, "cat $(find %s/%s/%s -name cgroup.procs) | wc -l", world.cgroup_mount.path.c_str(),
           world.cgroup_name, c.cgroup_name);
  FILE* pipe = popen(command, "r");
  int n = -1;
  if (fscanf(pipe, "%d", &n) != 1) n = -1;
  pclose(pipe);
  return n;
}

void executes() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(4);
  c.run(client, pod.build, "sleep 1000");
  auto simple = exec(client, pod, c, "echo hello; echo oops >&2; exit 3");
  if (!simple.reply.ok()) fprintf(stderr, "exec: %s\n", simple.reply.text.c_str());
  CHECK(simple.reply.ok() && simple.code == 3 && !simple.timed_out);
  CHECK(simple.out.view() == "hello\n" && simple.err.view() == "oops\n");

  // The time-out kills the whole tree and nothing else.
  int before = population(c);
  auto late = exec(client, pod, c, "sleep 777 & (sleep 777 & sleep 777); sleep 777", 300);
  CHECK(late.reply.ok() && late.timed_out && late.code == 137);
  CHECK(eventually([&] { return population(c) == before; }));
  char leaf[160];
  snprintf(leaf, sizeof leaf, "%s/exec-2", c.cgroup_name);
  CHECK(eventually([&] { return !exists_at(world.cgroup.get(), leaf); }));
  CHECK(state_of(client, c.id).view() == "running");

  // A child in the background does not hold up the answer and lives on.
  auto background = exec(client, pod, c, "sleep 2000 & echo started");
  CHECK(background.reply.ok() && background.code == 0 && background.out.view() == "started\n");
  CHECK(population(c) == before + 1);

  // Output beyond the limit is counted and discarded.
  auto large = exec(client, pod, c, "head -c 3000000 /dev/zero", 0, 100'000);
  CHECK(large.reply.ok() && large.code == 0 && large.out_size == 3'000'000 && large.out.size() == 100'000);
  auto greedy = exec(client, pod, c, "true", 0, (16u << 20) + 1);
  CHECK(!greedy.reply.ok());

  // Sixteen at once.
  Vec<u32> requests;
  auto plan = exec_plan(pod.build, "sleep 0.1; echo done");
  for (int i = 0; i < 16; ++i)
    requests.push(
        client.send(FrameType::kExec, with_id("{\"id\":\"@\",\"timeoutMs\":0,\"limit\":100}", c.id), {plan->get()}));
  int good = 0;
  for (u32 request : requests) {
    auto reply = client.receive(request);
    if (reply.ok() && reply.content(0).view() == "done\n") ++good;
  }
  CHECK(good == 16);

  // Running execs end with their container and are answered.
  u32 cut = client.send(FrameType::kExec, with_id("{\"id\":\"@\",\"timeoutMs\":0,\"limit\":100}", c.id),
                        {exec_plan(pod.build, "sleep 1000")->get()});
  usleep(50'000);
  CHECK(client.call(FrameType::kContainerRemove, c.one()).ok());
  auto answer = client.receive(cut);
  CHECK(answer.ok());
  auto json = answer.json();
  CHECK(json.root()["exitCode"].i64_or(0) == 137);
  CHECK(!c.cgroup_exists());
  CHECK(!exec(client, pod, c, "true").reply.ok());
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

void fails_to_start() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  // A request that is malformed, and one that asks for what is not there.
  CHECK(!client.call(FrameType::kContainerStart, "{\"id\":\"../x\"}").ok());
  CHECK(!client.call(FrameType::kContainerStart, with_id("{\"id\":\"@\"}", container_id(99))).ok());
  CHECK(!client.call(FrameType::kContainerCreate, "{}").ok());
  CHECK(!client.call(static_cast<FrameType>(99), "{}").ok());
  CHECK(!client.call(FrameType::kList, "[1]").ok());
  CHECK(!client.call(FrameType::kList, "{\"a\":").ok());
  auto unknown = client.call(FrameType::kLogReopen, with_id("{\"id\":\"@\"}", container_id(99)));
  auto json = unknown.json();
  CHECK(json.root()["code"].string_or("") == "ENOENT" && json.root()["errno"].i64_or(0) == ENOENT);
  CHECK(json.root()["message"].string_or("") != "");

  // What cannot be executed ends with the code that callers expect.
  struct {
    const char* program;
    int code;
    const char* name;
  } cases[] = {{"/bin/absent", 127, "ENOENT"}, {"/etc/passwd", 126, "EACCES"}};
  u32 number = 30;
  for (auto& wrong : cases) {
    Container failing(number++);
    auto created = failing.create(client, pod.build, "true", {.program = wrong.program});
    auto answer = created.ok() ? client.call(FrameType::kContainerStart, failing.one()) : static_cast<Reply&&>(created);
    CHECK(answer.arrived && !answer.ok());
    auto why = answer.json();
    CHECK(why.root()["code"].string_or("") == wrong.name);
    CHECK(why.root()["message"].string_or("").find(wrong.program) != string_view::npos);
    if (state_of(client, failing.id).view() != "absent") {
      auto event = client.event(FrameType::kEventExit);
      auto exit = event.json();
      CHECK(exit.root()["exitCode"].i64_or(-1) == wrong.code && exit.root()["startedAt"].string_or("") == "0");
      CHECK(client.call(FrameType::kContainerRemove, failing.one()).ok());
    }
    CHECK(!failing.cgroup_exists());
  }
  // One that is never started leaves no log, and its removal is an exit by SIGKILL.
  Container unused(40);
  CHECK(unused.create(client, pod.build, "true").ok());
  CHECK(client.call(FrameType::kContainerRemove, unused.one()).ok());
  auto killed = client.event(FrameType::kEventExit);
  auto by = killed.json();
  CHECK(by.root()["signal"].i64_or(0) == 9);
  CHECK(!exists_at(world.directory.get(), "logs/40.log") && !unused.cgroup_exists());

  // A plan that nobody sealed is refused and nothing stays.
  Container c(5);
  Fd plain(memfd_create("plan", MFD_CLOEXEC));
  Fd logs(openat(world.directory.get(), "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(!client
             .call(FrameType::kContainerCreate, c.request(),
                   {plain.get(), world.cgroup.get(), c.record.get(), logs.get()})
             .ok());
  CHECK(!c.cgroup_exists());
  CHECK(state_of(client, c.id).view() == "absent");
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

void honours_leases() {
  {
    Pod pod;
    Client owner = pod.connect(true, "bound");
    if (!pod.setup(owner)) return;
    Container c(6);
    c.run(owner, pod.build, "sleep 1000");
    owner.close();
    CHECK(pod.wait() == 0);
    CHECK(!c.cgroup_exists());
    char record[1];
    CHECK(pread(c.record.get(), record, 1, 0) == 1 && record[0] == '{');
  }
  {
    Pod pod;
    Client first = pod.connect(true, "bound");
    if (!pod.setup(first)) return;
    Container c(7);
    c.run(first, pod.build, "sleep 1000");
    Client second = pod.connect(true, "detached");  // takes ownership over
    first.close();
    usleep(100'000);
    CHECK(state_of(second, c.id).view() == "running");
    second.close();
    usleep(100'000);
    Client third = pod.connect(false);
    CHECK(state_of(third, c.id).view() == "running");
    kill(pod.pid, SIGTERM);  // an orderly end
    CHECK(pod.wait() == 0);
    CHECK(!c.cgroup_exists());
  }
}

void drops_slow_and_broken_clients() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Client slow = pod.connect(false);
  CHECK(eventually([&] {  // asks and asks, and never reads
    for (int i = 0; i < 1000; ++i)
      if (slow.send(FrameType::kList, "{}") == 0) return errno != EAGAIN;
    return false;
  }));
  // Whatever the slow one does, the other is served.
  CHECK(state_of(client, container_id(1)).view() == "absent");
  CHECK(slow.closed());
  Client broken = pod.connect(false);
  CHECK(send(broken.fd(), "not a frame, but long enough", 28, MSG_NOSIGNAL) == 28);
  CHECK(broken.closed());
  Client large = pod.connect(false);
  static char zeros[kFrameMax + 100];
  FrameHeader header{kFrameMagic, kFrameVersion, 2, 1, 0};
  memcpy(zeros, &header, sizeof header);
  CHECK(send(large.fd(), zeros, sizeof zeros, MSG_NOSIGNAL) == sizeof zeros);
  CHECK(large.closed());
  CHECK(client.call(FrameType::kShutdown).ok());
  CHECK(pod.wait() == 0);
}

void reexecutes() {
  // Another build: the same program with another build id.
  String program = read_at(AT_FDCWD, monitor_path);
  Pod pod;
  Client client = pod.connect(true, "bound");
  if (!pod.setup(client)) return;
  size_t at = program.view().find(pod.build.view());
  CHECK(at != string_view::npos);
  if (at == string_view::npos) return;
  String patched;
  patched.append(program.view().substr(0, at)).append("fedcba9876543210").append(program.view().substr(at + 16));
  auto other =
      sealed_memfd("monitor", {reinterpret_cast<const u8*>(patched.c_str()), patched.size()}, MemfdKind::kExecutable);
  CHECK(other);

  Container c(8);
  c.run(client, pod.build,
        "printf begun; i=0; while [ $i -lt 300 ]; do echo \" $i\"; i=$((i+1)); sleep 0.01; done; exit 5");
  Container waiting(9);
  CHECK(waiting.create(client, pod.build, "echo late; exit 6").ok());
  CHECK(eventually([&] { return c.log().size() > 50; }));
  u32 under_way = client.send(FrameType::kExec, with_id("{\"id\":\"@\",\"timeoutMs\":5000,\"limit\":1000}", c.id),
                              {exec_plan(pod.build, "echo before; sleep 0.5; echo after; exit 4")->get()});
  usleep(100'000);

  // A program that is no monitor never gets the pod.
  Fd busybox(open("/bin/busybox", O_RDONLY | O_CLOEXEC));
  CHECK(!client.call(FrameType::kReexec, "{}", {busybox.get()}).ok());
  Fd empty(memfd_create("empty", MFD_CLOEXEC));
  CHECK(!client.call(FrameType::kReexec, "{}", {empty.get()}).ok());
  CHECK(state_of(client, c.id).view() == "running");

  auto reply = client.call(FrameType::kReexec, "{}", {other->get()});
  if (!reply.ok()) fprintf(stderr, "reexec: %s\n", reply.text.c_str());
  CHECK(reply.ok());
  auto json = reply.json();
  CHECK(json.root()["buildId"].string_or("") == "fedcba9876543210");
  auto hello = client.call(FrameType::kHello, "{\"owner\":true,\"lease\":\"bound\"}");
  auto greeting = hello.json();
  CHECK(greeting.root()["buildId"].string_or("") == "fedcba9876543210");
  CHECK(greeting.root()["pid"].i64_or(0) == pod.pid);

  auto executed = client.receive(under_way);
  CHECK(executed.ok());
  if (executed.ok()) {
    auto result = executed.json();
    CHECK(result.root()["exitCode"].i64_or(-1) == 4);
    CHECK(executed.content(0).view() == "before\nafter\n");
  }
  CHECK(client.call(FrameType::kContainerStart, waiting.one()).ok());
  bool ended[2] = {};
  for (int i = 0; i < 2; ++i) {
    auto event = client.event(FrameType::kEventExit);
    CHECK(event.arrived);
    auto exit = event.json();
    if (exit.root()["id"].string_or("") == c.id.view()) ended[0] = exit.root()["exitCode"].i64_or(-1) == 5;
    if (exit.root()["id"].string_or("") == waiting.id.view()) ended[1] = exit.root()["exitCode"].i64_or(-1) == 6;
  }
  CHECK(ended[0] && ended[1]);
  String expected("stdout F begun 0\n");
  for (u32 i = 1; i < 300; ++i) expected.append("stdout F  ").append_u64(i).append('\n');
  CHECK(c.log().view() == expected.view());
  CHECK(waiting.log().view() == "stdout F late\n");
  client.close();  // the lease went along
  CHECK(pod.wait() == 0);
}

void drives_a_terminal() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(10);
  if (!c.run(client, pod.build, "tty >/dev/null && echo yes || echo no; echo err >&2; exit 9", {.terminal = true}))
    return;
  auto event = client.event(FrameType::kEventExit);
  auto exit = event.json();
  CHECK(exit.root()["exitCode"].i64_or(-1) == 9);
  CHECK(c.log().view() == "stdout F yes\r\nstdout F err\r\n");
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

void shares_a_pid_namespace() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client, "pod")) return;
  Container a(50), b(51);
  a.run(client, pod.build, "sleep 1000", {.shared_pid = true});
  b.run(client, pod.build, "[ $$ -gt 1 ] && [ -e /proc/1/stat ] && echo seen; (sleep 3000 &) ; exec sleep 1000",
        {.shared_pid = true});
  CHECK(eventually([&] { return b.log().view() == "stdout F seen\n"; }));
  // No init of its own takes its orphans along: the cgroup is killed.
  auto event = (client.call(FrameType::kContainerSignal, with_id("{\"id\":\"@\",\"signal\":9}", b.id)),
                client.event(FrameType::kEventExit));
  CHECK(event.arrived);
  CHECK(eventually([&] { return !b.cgroup_exists(); }));
  CHECK(state_of(client, a.id).view() == "running");
  CHECK(client.call(FrameType::kShutdown).ok());
  CHECK(pod.wait() == 0);
}

void lives_in_a_user_namespace() {
  Pod pod;
  Client client = pod.connect();
  constexpr string_view kUser =
      "{\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}],"
      "\"gidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}]}";
  if (!pod.setup(client, "container", kUser)) return;
  Container c(52);
  if (!c.run(client, pod.build, "cat /proc/self/uid_map; exec sleep 1000", {.user_namespace = true})) return;
  CHECK(eventually([&] { return c.log().view().find("100000") != string_view::npos; }));
  auto inside = exec(client, pod, c, "cat /proc/self/uid_map; exit 3");
  CHECK(inside.reply.ok() && inside.code == 3 && inside.out.view().find("100000") != string_view::npos);
  CHECK(client.call(FrameType::kKill).ok());
  auto event = client.event(FrameType::kEventExit);
  auto exit = event.json();
  CHECK(exit.root()["signal"].i64_or(0) == 9);
  CHECK(client.call(FrameType::kShutdown).ok());
  CHECK(pod.wait() == 0);
}

void guards_devices() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  constexpr string_view kScript =
      "(: >/dev/kmsg) 2>/dev/null && echo open || echo refused; echo x >/dev/null && echo null";
#define KMSG ",\"devices\":[{\"path\":\"/dev/kmsg\",\"type\":\"c\",\"major\":1,\"minor\":11,\"fileMode\":438}]"
  constexpr const char* kAllowed = KMSG ",\"resources\":{\"devices\":[{\"allow\":true,\"access\":\"rwm\"}]}";
  constexpr const char* kDenied = KMSG ",\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]}";
#undef KMSG
  Container open(54), guarded(55);
  open.run(client, pod.build, kScript, {.devices = kAllowed});
  CHECK(client.event(FrameType::kEventExit).arrived);
  CHECK(open.log().view() == "stdout F open\nstdout F null\n");
  guarded.run(client, pod.build, kScript, {.devices = kDenied});
  CHECK(client.event(FrameType::kEventExit).arrived);
  CHECK(guarded.log().view() == "stdout F refused\nstdout F null\n");
  CHECK(client.call(FrameType::kShutdown).ok());
  CHECK(pod.wait() == 0);
}

// Where the kernel's memory controller is on cgroup2: natively or in the virtual machine.
void tells_an_oom_kill() {
  char text[256];
  auto controllers = cgroup_read(world.cgroup_mount.dir.get(), "cgroup.controllers", text);
  if (!controllers || !cgroup_has_word(*controllers, "memory")) {
    skipped = "no memory controller on cgroup2";
    return;
  }
  string_view memory[] = {"memory"};
  auto enabled = cgroup_ensure(world.cgroup_mount.dir.get(), world.cgroup_name, memory);
  CHECK(enabled);
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(53);
  if (!c.run(client, pod.build, "a=aaaaaaaaaaaaaaaa; while true; do a=$a$a; done", {.memory = 16u << 20})) return;
  CHECK(client.event(FrameType::kEventOom, 60'000).arrived);
  auto event = client.event(FrameType::kEventExit, 60'000);
  auto exit = event.json();
  CHECK(exit.root()["oomKilled"].bool_or(false) && exit.root()["exitCode"].i64_or(0) == 137);
  CHECK(eventually([&] { return !c.cgroup_exists(); }));
  CHECK(client.call(FrameType::kShutdown).ok());
  CHECK(pod.wait() == 0);
}

// Private memory of the monitor in kB.
long private_memory(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
  String text = read_at(AT_FDCWD, path);
  long total = 0;
  for (const char* name : {"Private_Clean:", "Private_Dirty:"}) {
    const char* at = strstr(text.c_str(), name);
    if (at != nullptr) total += atol(at + strlen(name));
  }
  return total;
}

void stays_small() {
  Pod neighbour;  // as on any node with more than one pod, the pages of the program are shared
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  long empty = private_memory(pod.pid);
  long one = 0;
  for (u32 i = 0; i < 10; ++i) {
    Container c(20 + i);
    c.run(client, pod.build, "seq 1 20000; exec sleep 1000");
    CHECK(eventually([&] { return c.log().view().find("F 20000\n") != string_view::npos; }));
    if (i == 0) one = private_memory(pod.pid);
  }
  long ten = private_memory(pod.pid);
  printf("private memory of the monitor: %ld kB without a container, %ld kB with 1, %ld kB with 10\n", empty, one, ten);
  CHECK(one > 0 && one < 250 && ten < 250);
  CHECK(client.call(FrameType::kShutdown).ok());
  CHECK(pod.wait() == 0);
}

}  // namespace

int main(int argc, char** argv) {
  monitor_path = argc > 1 ? argv[1] : getenv("CAISSON_MONITOR");
  if (monitor_path == nullptr) monitor_path = "build/Release/caisson-monitor";
  auto mount = find_cgroup_mount();
  if (geteuid() != 0 || !mount || access(monitor_path, X_OK) != 0 || access("/bin/busybox", X_OK) != 0) {
    printf("skipped: needs root, a mount of cgroup2, /bin/busybox and %s\n", monitor_path);
    CHECK(true);
    return caisson::test::done();
  }
  setlinebuf(stdout);
  world.make(mount.take());
  struct {
    const char* name;
    void (*run)();
  } tests[] = {{"lives_and_dies", lives_and_dies},
               {"logs_every_line", logs_every_line},
               {"reopens_the_log", reopens_the_log},
               {"executes", executes},
               {"fails_to_start", fails_to_start},
               {"honours_leases", honours_leases},
               {"drops_slow_and_broken_clients", drops_slow_and_broken_clients},
               {"reexecutes", reexecutes},
               {"drives_a_terminal", drives_a_terminal},
               {"shares_a_pid_namespace", shares_a_pid_namespace},
               {"lives_in_a_user_namespace", lives_in_a_user_namespace},
               {"guards_devices", guards_devices},
               {"tells_an_oom_kill", tells_an_oom_kill},
               {"stays_small", stays_small}};
  const char* only = getenv("CAISSON_TEST_ONLY");
  for (auto& t : tests) {
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
  return caisson::test::done();
}
