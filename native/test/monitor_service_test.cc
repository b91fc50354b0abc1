// What a monitor does beside a container's life: execs, owners and their leases, bad clients, re-execution, memory.
//   monitor_service_test [path of caisson-monitor]
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "test/monitor_world.h"

using namespace caisson;
using namespace caisson::test;

namespace {

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

u64 inode_of(int fd) {
  struct stat st = {};
  return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

// The network namespace and sockets made in it, by descriptor; what is not there by name.
void hands_out_its_network() {
  Pod pod;
  Client client = pod.connect();
  CHECK(!client.call(FrameType::kPodSocket, "{\"kind\":\"tcp4\"}").ok());  // not set up yet
  if (!pod.setup(client)) return;
  auto ns = client.call(FrameType::kPodNamespace, "{\"type\":\"network\"}");
  CHECK(ns.ok() && ns.fds.count == 1);
  const u64 theirs = inode_of(ns.fds.items[0].get());
  struct stat own = {};
  CHECK(stat("/proc/self/ns/net", &own) == 0 && theirs != 0 && theirs != own.st_ino);
  for (const char* kind : {"tcp4", "tcp6", "udp4", "udp6", "route", "netfilter"}) {
    char payload[64];
    snprintf(payload, sizeof payload, "{\"kind\":\"%s\"}", kind);
    auto made = client.call(FrameType::kPodSocket, payload);
    CHECK(made.ok() && made.fds.count == 1);
    Fd its(ioctl(made.fds.items[0].get(), SIOCGSKNS));
    CHECK(its && inode_of(its.get()) == theirs);
  }
  // the monitor itself has come back
  auto again = client.call(FrameType::kPodNamespace, "{\"type\":\"network\"}");
  CHECK(again.ok() && inode_of(again.fds.items[0].get()) == theirs);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/net", pod.pid);
  struct stat monitors = {};
  CHECK(stat(path, &monitors) == 0 && monitors.st_ino == own.st_ino);
  CHECK(!client.call(FrameType::kPodSocket, "{\"kind\":\"packet\"}").ok());
  CHECK(!client.call(FrameType::kPodNamespace, "{\"type\":\"mount\"}").ok());
  auto absent = client.call(FrameType::kPodNamespace, "{\"type\":\"user\"}");
  CHECK(absent.arrived && !absent.ok() && absent.json().root()["errno"].i64_or(0) == ENOENT);
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
  Pod pod;
  Client client = pod.connect(true, "bound");
  if (!pod.setup(client)) return;
  auto other = other_build(pod);
  CHECK(other);
  if (!other) return;

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
  CHECK(json.root()["buildId"].string_or("") == kOtherBuild);
  auto hello = client.call(FrameType::kHello, "{\"owner\":true,\"lease\":\"bound\"}");
  auto greeting = hello.json();
  CHECK(greeting.root()["buildId"].string_or("") == kOtherBuild);
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

// Hooks outlive the program that began them, and so does what is to be told when they are over.
void hands_hooks_over() {
  Pod pod;
  Client client = pod.connect(true, "bound");
  if (!pod.setup(client)) return;
  auto other = other_build(pod);
  CHECK(other);
  if (!other) return;

  Container c(10);
  auto hook = [&](String& text, string_view name, string_view script) {
    String command(script);
    command.append("; cat >>").append(world.path).append("/told; echo >>").append(world.path).append("/told");
    text.append("\"").append(name).append("\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",").append(quoted(command));
    text.append("],\"env\":[\"PATH=/bin:/usr/bin\"],\"timeout\":30}]");
  };
  String text("{\"ociVersion\":\"1.3.0\",\"bundle\":\"/\",\"hooks\":{");
  hook(text, "poststart", "sleep 1");
  hook(text.append(','), "poststop", "true");
  text.append("},\"id\":\"").append(c.id).append("\"}");
  auto hooks = sealed_memfd("hooks", {reinterpret_cast<const u8*>(text.c_str()), text.size()}, MemfdKind::kData);
  auto plan = container_plan(pod.build, "sleep 0.2; exit 7");
  Fd logs(openat(world.directory.get(), "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  String request = c.request();
  request.truncate(request.size() - 1);
  request.append(",\"hooks\":true}");
  CHECK(client
            .call(FrameType::kContainerCreate, request,
                  {plan->get(), world.cgroup.get(), c.record.get(), logs.get(), hooks->get()})
            .ok());
  u32 start = client.send(FrameType::kContainerStart, c.one(), {});
  CHECK(eventually([&] { return state_of(client, c.id).view() == "running"; }));
  usleep(400'000);  // the process has ended by now, its hook not
  CHECK(client.call(FrameType::kReexec, "{}", {other->get()}).ok());
  CHECK(client.receive(start).ok());
  auto event = client.event(FrameType::kEventExit);
  CHECK(event.arrived && event.json().root()["exitCode"].i64_or(-1) == 7);
  CHECK(client.call(FrameType::kContainerRemove, c.one()).ok());
  String told = read_at(world.directory.get(), "told");
  CHECK(strstr(told.c_str(), "\"status\":\"running\"") != nullptr);
  CHECK(strstr(told.c_str(), "\"status\":\"stopped\",\"pid\":0") != nullptr);
  client.close();
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
  static constexpr MonitorTest kTests[] = {{"executes", executes},
                                           {"honours_leases", honours_leases},
                                           {"hands_out_its_network", hands_out_its_network},
                                           {"drops_slow_and_broken_clients", drops_slow_and_broken_clients},
                                           {"reexecutes", reexecutes},
                                           {"hands_hooks_over", hands_hooks_over},
                                           {"stays_small", stays_small}};
  return run_monitor_tests(argc, argv, kTests);
}
