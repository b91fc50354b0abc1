// Who takes part in a container's streams: attached clients, execs whose streams are handed out. And that a new program
// of the monitor goes on with them.
//   monitor_streams_test [path of caisson-monitor]
#include "test/monitor_world.h"

using namespace caisson;
using namespace caisson::test;

namespace {

// Reads until `text` has come, or EOF.
String read_until(int fd, string_view text, int timeout_ms = 10'000) {
  String out;
  for (;;) {
    if (!text.empty() && out.view().find(text) != string_view::npos) return out;
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, timeout_ms) <= 0) return out;
    char chunk[4096];
    const ssize_t n = read(fd, chunk, sizeof chunk);
    if (n <= 0) return out;
    out.append(string_view(chunk, static_cast<size_t>(n)));
  }
}

String attach_request(const Container& c) {
  return with_id("{\"id\":\"@\",\"stdin\":false,\"stdout\":true,\"stderr\":true}", c.id);
}

Reply exec_stream(Client& client, const Pod& pod, const Container& c, string_view script) {
  const String text = with_id("{\"id\":\"@\",\"stdin\":true,\"stdout\":true,\"stderr\":false}", c.id);
  return client.call(FrameType::kExecStream, text, {exec_plan(pod.build, script)->get()});
}

String numbered(const Container& c, const Reply& handed) {
  String text;
  text.append("{\"id\":\"").append(c.id).append("\",\"number\":");
  text.append_u64(handed.json().root()["number"].u64_or(0)).append('}');
  return text;
}

void attaches() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(60);
  CHECK(c.create(client, pod.build, "echo out; echo err >&2; echo more").ok());
  Reply first = client.call(FrameType::kContainerAttach, attach_request(c));
  Reply second = client.call(FrameType::kContainerAttach, attach_request(c));
  CHECK(first.ok() && first.fds.count == 2 && second.ok() && second.fds.count == 2);
  second.fds.items[0].reset();  // who leaves disturbs nobody
  CHECK(client.call(FrameType::kContainerStart, c.one()).ok());
  CHECK(read_until(first.fds.items[0].get(), "").view() == "out\nmore\n");
  CHECK(read_until(first.fds.items[1].get(), "").view() == "err\n");
  CHECK(read_until(second.fds.items[1].get(), "").view() == "err\n");
  CHECK(client.event(FrameType::kEventExit).arrived);
  CHECK(c.log().view().find("stdout F more\n") != string_view::npos);
  CHECK(!client.call(FrameType::kContainerAttach, attach_request(c)).ok());  // it has ended
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

void drops_slow_readers() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(61);
  CHECK(c.create(client, pod.build, "head -c 4000000 /dev/zero | tr '\\0' 'x'").ok());
  Reply slow = client.call(FrameType::kContainerAttach, attach_request(c));
  CHECK(slow.ok());
  CHECK(client.call(FrameType::kContainerStart, c.one()).ok());
  auto dropped = client.event(FrameType::kEventAttachDropped);
  CHECK(dropped.arrived);
  auto event = dropped.json();
  CHECK(event.root()["number"].u64_or(9) == slow.json().root()["number"].u64_or(0));
  CHECK(client.event(FrameType::kEventExit).arrived);  // the container did not wait for it
  const size_t had = read_until(slow.fds.items[0].get(), "").size();
  CHECK(had > 0 && had < 4'000'000);
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

void hands_out_an_exec() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  Container c(62);
  c.run(client, pod.build, "exec sleep 1000");
  Reply handed = exec_stream(client, pod, c, "read x; echo got $x; exit 3");
  CHECK(handed.ok() && handed.fds.count == 2);
  if (!handed.ok()) return;
  CHECK(write(handed.fds.items[0].get(), "this\n", 5) == 5);
  CHECK(read_until(handed.fds.items[1].get(), "").view() == "got this\n");
  auto ended = client.call(FrameType::kExecWait, numbered(c, handed));
  CHECK(ended.ok() && ended.json().root()["exitCode"].i64_or(-1) == 3);
  CHECK(!client.call(FrameType::kExecWait, numbered(c, handed)).ok());  // it is told once

  Reply killed = exec_stream(client, pod, c, "exec sleep 1000");
  CHECK(killed.ok());
  CHECK(client.call(FrameType::kExecKill, numbered(c, killed)).ok());
  auto signalled = client.call(FrameType::kExecWait, numbered(c, killed));
  CHECK(signalled.ok() && signalled.json().root()["signal"].i64_or(-1) == SIGKILL);

  // The process of a client that vanishes ends.
  {
    Client other = pod.connect(false);
    Reply theirs = exec_stream(other, pod, c, "echo begun; exec sleep 1000");
    CHECK(theirs.ok());
    CHECK(read_until(theirs.fds.items[1].get(), "begun\n").view() == "begun\n");
    other.close();
    CHECK(read_until(theirs.fds.items[1].get(), "").empty());
  }
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

void goes_on_after_reexec() {
  Pod pod;
  Client client = pod.connect();
  if (!pod.setup(client)) return;
  auto other = other_build(pod);
  CHECK(other);
  if (!other) return;
  Container c(63);
  CHECK(c.create(client, pod.build, "echo 1; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo 2").ok());
  Reply attached = client.call(FrameType::kContainerAttach, attach_request(c));
  CHECK(attached.ok());
  CHECK(client.call(FrameType::kContainerStart, c.one()).ok());
  CHECK(read_until(attached.fds.items[0].get(), "1\n").view() == "1\n");
  Reply handed = exec_stream(client, pod, c, "read x; echo got $x; : >/tmp/go; exit 4");
  CHECK(handed.ok());
  if (!handed.ok()) return;
  const u32 waiting = client.send(FrameType::kExecWait, numbered(c, handed));
  CHECK(client.call(FrameType::kReexec, "{}", {other->get()}).ok());
  CHECK(write(handed.fds.items[0].get(), "after\n", 6) == 6);
  CHECK(read_until(handed.fds.items[1].get(), "").view() == "got after\n");
  auto ended = client.receive(waiting);
  CHECK(ended.ok() && ended.json().root()["exitCode"].i64_or(-1) == 4);
  CHECK(read_until(attached.fds.items[0].get(), "").view() == "2\n");
  CHECK(client.event(FrameType::kEventExit).arrived);
  client.call(FrameType::kShutdown);
  CHECK(pod.wait() == 0);
}

}  // namespace

int main(int argc, char** argv) {
  static constexpr MonitorTest kTests[] = {{"attaches", attaches},
                                           {"drops_slow_readers", drops_slow_readers},
                                           {"hands_out_an_exec", hands_out_an_exec},
                                           {"goes_on_after_reexec", goes_on_after_reexec}};
  return run_monitor_tests(argc, argv, kTests);
}
