// systemd.h: names, properties, and the conversation with a systemd: a played one everywhere, the real one where it is
// pid 1 (scripts/vm --systemd).
#include "core/systemd.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "core/cgroup.h"
#include "core/spawn.h"
#include "test/check.h"

using namespace caisson;

namespace {

void names() {
  auto scope = systemd_scope("machine.slice:libpod:0123", "id", false);
  CHECK(scope && scope->slice.view() == "machine.slice" && scope->unit.view() == "libpod-0123.scope");
  scope->unit.clear();
  auto system = systemd_scope(":runc:x", "id", false);
  CHECK(system && system->slice.view() == "system.slice" && system->unit.view() == "runc-x.scope");
  auto user = systemd_scope(":runc:x", "id", true);
  CHECK(user && user->slice.view() == "user.slice");
  auto absent = systemd_scope("", "a_b.c-1+2", false);
  CHECK(absent && absent->unit.view() == "caisson-a_b.c-1\\x2b2.scope");
  const std::string long_name(260, 'a');
  struct Bad {
    std::string path;
    const char* text;
  };
  const Bad bad[] = {
      {"/a/b", "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/a/b\" instead"},
      {"a:b", "expected cgroupsPath"},
      {"a.slice:b:c:d", "expected cgroupsPath"},
      {"a.slice:b:", "no name in"},
      {"a.slice:b:c.slice", "a slice holds no process"},
      {"a:b:c", "no slice: 'a'"},
      {".slice:b:c", "no slice"},
      {"a--b.slice:b:c", "no slice"},
      {"-a.slice:b:c", "no slice"},
      {"a-.slice:b:c", "no slice"},
      {"a/b.slice:b:c", "no slice"},
      {"a.slice:b:c d", "cannot hold all characters"},
      {"a.slice:b:../x", "cannot hold all characters"},
      {"a.slice:b:" + long_name, "over 255 bytes"},
  };
  for (const Bad& each : bad) {
    auto refused = systemd_scope(each.path, "id", false);
    CHECK(!refused && refused.error().err == EINVAL);
    CHECK(!refused && string_view(refused.error().object).find(each.text) != string_view::npos);
    if (!refused && string_view(refused.error().object).find(each.text) == string_view::npos)
      fprintf(stderr, "%s: %s\n", each.path.c_str(), refused.error().object);
  }
  auto path = systemd_slice_path("a-b-c.slice");
  CHECK(path && path->view() == "/a.slice/a-b.slice/a-b-c.slice");
  auto root = systemd_slice_path("-.slice");
  CHECK(root && root->view() == "/");
}

void annotations() {
  auto none = JsonDocument::parse(R"({"io.kubernetes.x":"y","org.systemd.propertyx":"z"})");
  CHECK(none && refuse_systemd_properties(none->root()));
  CHECK(refuse_systemd_properties(JsonValue::absent()));
  auto bad = JsonDocument::parse(R"({"org.systemd.property.ExecStart":"[('/bin/sh',)]"})");
  auto refused = refuse_systemd_properties(bad->root());
  CHECK(!refused && refused.error().err == ENOTSUP);
  CHECK(string_view(refused.error().object).find("annotations.org.systemd.property.ExecStart") == 0);
}

// The properties as text: "MemoryMax=4096 AllowedCPUs=[0f]"
std::string properties(span<const CgroupLimit> limits) {
  DbusWriter body;
  body.begin_array(8);
  append_unit_properties(body, limits);
  body.end_array();
  DbusReader reader(body.data(), "a(sv)");
  auto list = reader.array();
  std::string text;
  while (list->more()) {
    CHECK(list->begin_struct());
    const std::string name(*list->string());
    auto value = list->variant();
    CHECK(list->end_struct());
    text += (text.empty() ? "" : " ") + name + "=";
    DbusReader copy = *value;
    if (auto number = value->u64_value()) {
      text += *number == ~u64{0} ? "infinity" : std::to_string(*number);
      continue;
    }
    auto bytes = copy.array();
    CHECK(bytes);
    if (!bytes) return text;
    text += "[";
    while (bytes->more()) {
      char hex[4];
      snprintf(hex, sizeof hex, "%02x", *bytes->byte());
      text += hex;
    }
    text += "]";
  }
  return text;
}

void unit_properties() {
  struct Case {
    const char* file;
    const char* value;
    const char* expected;
  };
  const Case cases[] = {
      {"memory.max", "4096", "MemoryMax=4096"},
      {"memory.max", "max", "MemoryMax=infinity"},
      {"memory.high", " 5\n", "MemoryHigh=5"},
      {"memory.low", "1", "MemoryLow=1"},
      {"memory.min", "2", "MemoryMin=2"},
      {"memory.swap.max", "0", "MemorySwapMax=0"},
      {"cpu.weight", "100", "CPUWeight=100"},
      {"io.weight", "200", "IOWeight=200"},
      {"io.weight", "default 300", "IOWeight=300"},
      {"io.weight", "8:0 300", ""},
      {"io.bfq.weight", "300", ""},
      {"pids.max", "12", "TasksMax=12"},
      {"pids.max", "max", "TasksMax=infinity"},
      {"pids.max", "0", "TasksMax=1"},
      {"cpu.max", "50000 100000", "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=500000"},
      {"cpu.max", "max 50000", "CPUQuotaPeriodUSec=50000 CPUQuotaPerSecUSec=infinity"},
      {"cpu.max", "20000", "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=200000"},
      {"cpu.max", "12345 100000", "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=130000"},
      {"cpu.max", "18446744073709551614 100000", "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=infinity"},
      {"cpu.max", "x", ""},
      {"cpu.max", "1 0", ""},
      {"cpuset.cpus", "0-3,8", "AllowedCPUs=[0f01]"},
      {"cpuset.mems", "0", "AllowedMemoryNodes=[01]"},
      {"cpuset.cpus", "3-1", ""},
      {"cpuset.cpus", "0-99999", ""},
      {"cpuset.cpus", "1,", "AllowedCPUs=[02]"},
      {"cpuset.cpus", "x", ""},
      {"hugetlb.2MB.max", "1", ""},
      {"memory.max", "12x", ""},
      {"memory.max", "18446744073709551616", ""},
      {"cpu.max.burst", "1000", ""},
  };
  for (const Case& each : cases) {
    const CgroupLimit limit = {each.file, each.value, 0};
    const std::string got = properties({&limit, 1});
    CHECK(got == each.expected);
    if (got != each.expected) fprintf(stderr, "%s %s: %s\n", each.file, each.value, got.c_str());
  }
}

// systemd as it would answer, at the other end of a socket.
class Played {
 public:
  explicit Played(int fd) : fd_(fd) {}

  void greet() {
    char text[29];
    CHECK(recv(fd_, text, sizeof text, MSG_WAITALL) == 29);
    CHECK(write(fd_, "DATA\r\nOK 1\r\n", 12) == 12);
  }
  DbusMessage receive() {
    Vec<u8> all;
    for (int i = 0; i < 16; ++i) all.push(0);
    if (recv(fd_, all.data(), 16, MSG_WAITALL) != 16) _exit(2);
    const size_t size = *dbus_message_size({all.data(), 16});
    while (all.size() < size) all.push(0);
    CHECK(recv(fd_, all.data() + 16, size - 16, MSG_WAITALL) == ssize_t(size - 16));
    return parse_dbus_message({all.data(), all.size()}).take();
  }
  void answer(const DbusMessage& call, const char* signature, const DbusWriter& body, const char* error = nullptr) {
    send(error == nullptr ? 2 : 3, call.serial, signature, body, error, ":1.0");
  }
  void job_removed(const char* job, const char* result, const char* sender = ":1.0") {
    DbusWriter body;
    body.u32_value(1).object_path(job).string("a-b.scope").string(result);
    send(4, 0, "uoss", body, nullptr, sender);
  }

 private:
  void send(u8 type, u32 reply, const char* signature, const DbusWriter& body, const char* error, const char* sender) {
    DbusWriter head;
    head.byte('l').byte(type).byte(0).byte(1).u32_value(static_cast<u32>(body.data().size())).u32_value(++serial_);
    head.begin_array(8);
    if (type == 4) {
      head.begin_struct().byte(1).signature("o").object_path("/org/freedesktop/systemd1");
      head.begin_struct().byte(2).signature("s").string("org.freedesktop.systemd1.Manager");
      head.begin_struct().byte(3).signature("s").string("JobRemoved");
    }
    if (error != nullptr) head.begin_struct().byte(4).signature("s").string(error);
    if (reply != 0) head.begin_struct().byte(5).signature("u").u32_value(reply);
    head.begin_struct().byte(7).signature("s").string(sender);
    if (signature[0] != 0) head.begin_struct().byte(8).signature("g").signature(signature);
    head.end_array().align(8);
    CHECK(write(fd_, head.data().data(), head.data().size()) == ssize_t(head.data().size()));
    if (!body.data().empty()) CHECK(write(fd_, body.data().data(), body.data().size()) == ssize_t(body.data().size()));
  }
  int fd_;
  u32 serial_ = 0;
};

template <typename Serve>
Result<SystemdBus> play(Serve serve, pid_t& pid) {
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  pid = fork();
  if (pid == 0) {
    close(fds[0]);
    test::failures = 0;
    Played systemd(fds[1]);
    systemd.greet();
    DbusWriter name;
    systemd.answer(systemd.receive(), "s", name.string(":1.9"));  // Hello
    serve(systemd);
    _exit(test::failures == 0 ? 0 : 1);
  }
  close(fds[1]);
  return SystemdBus(CAISSON_TRY(DbusConnection::open(Fd(fds[0]), true, 5000)));
}

void ended_well(pid_t pid) {
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void subscribes(Played& systemd) {
  const DbusMessage match = systemd.receive();
  CHECK(match.member.view() == "AddMatch");
  systemd.answer(match, "", DbusWriter());
  const DbusMessage subscribe = systemd.receive();
  CHECK(subscribe.member.view() == "Subscribe");
  systemd.answer(subscribe, "", DbusWriter());
}

SystemdScope scope_of(const char* slice, const char* unit) {
  SystemdScope scope;
  scope.slice = String(slice);
  scope.unit = String(unit);
  return scope;
}

void played() {
  const SystemdScope scope = scope_of("a.slice", "a-b.scope");
  const CgroupLimit limit = {"memory.max", "4096", 0};
  pid_t pid = 0;
  auto bus = play(
      [](Played& systemd) {
        subscribes(systemd);
        // A left-over of that name has failed: it is reset, and the start tried again.
        DbusMessage start = systemd.receive();
        CHECK(start.member.view() == "StartTransientUnit" && start.signature.view() == "ssa(sv)a(sa(sv))");
        DbusWriter text;
        systemd.answer(start, "s", text.string("Unit exists."), "org.freedesktop.systemd1.UnitExists");
        const DbusMessage reset = systemd.receive();
        CHECK(reset.member.view() == "ResetFailedUnit");
        systemd.answer(reset, "", DbusWriter());
        start = systemd.receive();
        DbusReader reader = start.reader();
        CHECK(*reader.string() == "a-b.scope" && *reader.string() == "replace");
        std::string names;
        for (auto list = reader.array(); list->more();) {
          CHECK(list->begin_struct());
          names += std::string(*list->string()) + " ";
          CHECK(list->variant() && list->end_struct());
        }
        CHECK(names ==
              "Description Slice PIDs Delegate DefaultDependencies MemoryAccounting CPUAccounting IOAccounting "
              "TasksAccounting CollectMode MemoryMax ");
        // Signals that are about something else, or not from systemd, come before ours, which comes before the answer.
        systemd.job_removed("/job/1", "failed");
        systemd.job_removed("/job/2", "failed", ":1.66");
        systemd.job_removed("/job/2", "done");
        DbusWriter job;
        systemd.answer(start, "o", job.object_path("/job/2"));

        start = systemd.receive();
        DbusWriter second;
        systemd.answer(start, "o", second.object_path("/job/3"));
        systemd.job_removed("/job/3", "timeout");
        systemd.answer(systemd.receive(), "", DbusWriter());  // ResetFailedUnit

        start = systemd.receive();
        DbusWriter why;
        systemd.answer(start, "s", why.string("Cannot set property X"), "org.freedesktop.DBus.Error.PropertyReadOnly");

        DbusMessage set = systemd.receive();
        CHECK(set.member.view() == "SetUnitProperties" && set.signature.view() == "sba(sv)");
        systemd.answer(set, "", DbusWriter());

        DbusWriter none;
        systemd.answer(systemd.receive(), "s", none.string("not loaded"), "org.freedesktop.systemd1.NoSuchUnit");
      },
      pid);
  CHECK(bus);
  if (bus) {
    CHECK(bus->start_scope(scope, "d", 1, {&limit, 1}));
    auto late = bus->start_scope(scope, "d", 1, {});
    CHECK(!late && late.error().err == EIO && string_view(late.error().object) == "unit a-b.scope: job timeout");
    auto refused = bus->start_scope(scope, "d", 1, {});
    CHECK(!refused && refused.error().err == EINVAL &&
          string_view(refused.error().object) == "unit a-b.scope: Cannot set property X");
    CHECK(bus->set_properties("a-b.scope", {&limit, 1}));
    const CgroupLimit unknown = {"hugetlb.2MB.max", "0", 0};
    CHECK(bus->set_properties("a-b.scope", {&unknown, 1}));  // asks nothing
    CHECK(bus->stop_unit("a-b.scope"));                      // it is gone already
  }
  ended_well(pid);
}

std::string read_file(int dir, const char* file) {
  char text[4096];
  auto read = cgroup_read(dir, file, text);
  return read ? std::string(*read) : std::string();
}

// The real one: a scope with limits, changed, reloaded, stopped.
void real() {
  const std::string name = "caisson-test-" + std::to_string(getpid()) + ".scope";
  const SystemdScope scope = scope_of("caissontest-deep.slice", name.c_str());
  const CgroupMount mount = find_cgroup_mount().take();
  auto bus = SystemdBus::connect(false);
  CHECK(bus);
  if (!bus) return;
  auto holder = start_placeholder();
  CHECK(holder);
  const CgroupLimit limits[] = {{"memory.max", "67108864", 0},  {"pids.max", "33", 0},   {"cpu.weight", "77", 0},
                                {"cpu.max", "30000 100000", 0}, {"cpuset.cpus", "0", 0}, {"memory.swap.max", "0", 0}};
  auto started = bus->start_scope(scope, "test", static_cast<u32>(holder->pid), limits);
  CHECK(started);
  if (!started) {
    fprintf(stderr, "%s\n", started.error().object);
    CHECK(end_placeholder(holder->pidfd.get()));
    return;
  }
  auto group = bus->control_group(name);
  const std::string expected = "/caissontest.slice/caissontest-deep.slice/" + name;
  CHECK(group && group->view() == expected);
  auto own = cgroup_path_of(holder->pid);
  CHECK(own && own->view() == expected);
  Fd cgroup = cgroup_open(mount.dir.get(), expected.c_str()).take();
  CHECK(read_file(cgroup.get(), "memory.max") == "67108864" && read_file(cgroup.get(), "pids.max") == "33");
  CHECK(read_file(cgroup.get(), "cpu.weight") == "77" && read_file(cgroup.get(), "cpu.max") == "30000 100000");
  CHECK(read_file(cgroup.get(), "cpuset.cpus") == "0");
  auto again = bus->start_scope(scope, "test", static_cast<u32>(holder->pid), {});
  CHECK(!again && again.error().err == EEXIST);

  const CgroupLimit changed[] = {{"memory.max", "max", 0}, {"pids.max", "44", 0}};
  CHECK(bus->set_properties(name, changed));
  CHECK(read_file(cgroup.get(), "memory.max") == "max" && read_file(cgroup.get(), "pids.max") == "44");
  CHECK(system("systemctl daemon-reload") == 0);
  CHECK(read_file(cgroup.get(), "pids.max") == "44" && read_file(cgroup.get(), "cpu.weight") == "77");

  auto absent = bus->set_properties("caisson-none.scope", changed);
  CHECK(!absent && absent.error().err == ENOENT);
  CHECK(bus->stop_unit(name));
  CHECK(!cgroup_open(mount.dir.get(), expected.c_str()));
  CHECK(bus->stop_unit(name));
  auto gone = bus->control_group(name);
  CHECK(!gone && gone.error().err == ENOENT);
  CHECK(end_placeholder(holder->pidfd.get()));

  // Another PID namespace numbers processes otherwise.
  const pid_t outer = fork();
  if (outer == 0) {
    test::failures = 0;
    CHECK(unshare(CLONE_NEWPID) == 0);
    const pid_t inner = fork();
    if (inner == 0) {
      auto foreign = SystemdBus::connect(false);
      CHECK(!foreign && foreign.error().err == EXDEV);
      _exit(test::failures == 0 ? 0 : 1);
    }
    ended_well(inner);
    _exit(test::failures == 0 ? 0 : 1);
  }
  ended_well(outer);

  // Without a bus: systemd's own socket.
  CHECK(setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere", 1) == 0);
  auto direct = SystemdBus::connect(false);
  CHECK(direct);
  if (direct) {
    auto second = start_placeholder();
    CHECK(direct->start_scope(scope, "test", static_cast<u32>(second->pid), limits));
    CHECK(direct->stop_unit(name));
    CHECK(end_placeholder(second->pidfd.get()));
  }
  CHECK(unsetenv("DBUS_SYSTEM_BUS_ADDRESS") == 0);
}

void placeholder() {
  int fds[2];
  CHECK(pipe(fds) == 0);
  auto holder = start_placeholder();
  CHECK(holder);
  close(fds[1]);
  char c;
  CHECK(read(fds[0], &c, 1) == 0);  // it holds no descriptor of ours
  close(fds[0]);
  auto exit = reap(holder->pidfd.get());
  CHECK(exit && !exit->exited && exit->signal == 0);
  CHECK(end_placeholder(holder->pidfd.get()));
  CHECK(kill(holder->pid, 0) != 0);
  CHECK(end_placeholder(holder->pidfd.get()));
}

}  // namespace

int main() {
  signal(SIGPIPE, SIG_IGN);
  names();
  annotations();
  unit_properties();
  played();
  placeholder();
  if (access("/run/systemd/system", F_OK) == 0 && geteuid() == 0)
    real();
  else
    printf("skipped: the real one: systemd is not pid 1 here\n");
  return test::done();
}
