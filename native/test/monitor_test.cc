// Containers of a monitor: their life, output, terminal, namespaces, devices and end.
//   monitor_test [path of caisson-monitor]
#include "test/monitor_world.h"

using namespace caisson;
using namespace caisson::test;

namespace {

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

}  // namespace

int main(int argc, char** argv) {
  static constexpr MonitorTest kTests[] = {{"lives_and_dies", lives_and_dies},
                                           {"logs_every_line", logs_every_line},
                                           {"reopens_the_log", reopens_the_log},
                                           {"fails_to_start", fails_to_start},
                                           {"drives_a_terminal", drives_a_terminal},
                                           {"shares_a_pid_namespace", shares_a_pid_namespace},
                                           {"lives_in_a_user_namespace", lives_in_a_user_namespace},
                                           {"guards_devices", guards_devices},
                                           {"tells_an_oom_kill", tells_an_oom_kill}};
  return run_monitor_tests(argc, argv, kTests);
}
