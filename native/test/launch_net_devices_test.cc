// Interfaces that move from one network namespace into another, with a name, their addresses and their state; and back
// when one of them fails.
#include <sys/syscall.h>

#include "core/net_devices.h"
#include "test/launch_config.h"
#include "test/networks.h"

using namespace caisson;
using namespace caisson::test;

namespace {

Status move(std::initializer_list<const char*> pairs, const Fd& network) {
  PlanBuilder b(PlanKind::kContainer);
  b.ns(NamespaceType::kMount).mode = NamespaceMode::kNew;
  b.ns(NamespaceType::kNetwork).mode = NamespaceMode::kNew;
  b.root() = {RootKind::kBind, 0, 0, b.string("/"), {}};
  b.process().cwd = b.string("/");
  b.add_text(Section::kArgs, "true");
  for (auto each = pairs.begin(); each != pairs.end(); each += 2)
    b.add(Section::kNetDevices, NetDeviceEntry{b.string(each[0]), b.string(each[1])});
  auto blob = b.finish();
  if (!blob) abort();
  auto plan = PlanView::parse({blob->data(), blob->size()});
  if (!plan) abort();
  NetDevices devices;
  return devices.move(*plan, network.get());
}

void expect_moved(const Status& moved) {
  if (!moved) fprintf(stderr, "%s: %s\n", moved.error().call, moved.error().object);
  CHECK(moved);
}

void refused(const Status& moved, i32 err, string_view text) {
  const bool held =
      !moved && moved.error().err == err && string_view(moved.error().object).find(text) != string_view::npos;
  if (!held)
    fprintf(stderr, "wanted %d %s, got %d %s\n", err, String(text).c_str(), moved ? 0 : moved.error().err,
            moved ? "moved" : moved.error().object);
  CHECK(held);
}

void moves_with_addresses() {
  shell(
      "ip link add d0 type veth peer name d0p && ip addr add 10.1.2.3/24 broadcast 10.1.2.255 dev d0 && "
      "ip addr add 10.1.2.9/32 dev d0 scope link && ip addr add 10.7.7.7/16 dev d0 valid_lft 1000 preferred_lft 1000 "
      "&& "
      "ip -6 addr add fd00::5/64 dev d0 nodad && ip addr add 10.1.2.4/24 dev d0 label d0:x && ip link set d0 up mtu "
      "1400");
  Fd network = new_network();
  expect_moved(move({"d0", "eth7"}, network));
  CHECK(!has(output_of("ip link"), "d0@"));
  String shown = output_in(network, "ip addr show dev eth7");
  CHECK(has(shown, "inet 10.1.2.3/24 brd 10.1.2.255 scope global eth7"));
  CHECK(has(shown, "inet 10.1.2.4/24 scope global secondary eth7"));
  CHECK(has(shown, "inet6 fd00::5/64 scope global"));
  // of the link, and of a lease: they stay behind
  CHECK(!has(shown, "10.1.2.9") && !has(shown, "10.7.7.7"));
  CHECK(has(shown, ",UP") && has(shown, "mtu 1400"));
  // one direction more, under another name
  Fd third = new_network();
  Fd own = own_network();
  if (sys::setns(network.get(), uapi::kCloneNewnet) != 0) abort();
  expect_moved(move({"eth7", "eth7"}, third));
  if (sys::setns(own.get(), uapi::kCloneNewnet) != 0) abort();
  CHECK(has(output_in(third, "ip addr show dev eth7"), "10.1.2.3/24"));
}

void names_and_indices() {
  shell(
      "ip link add d1 type veth peer name d1p; ip link add d2 type veth peer name d2p; ip link add d3 type veth peer "
      "name d3p");
  Fd network = new_network();
  // every small index is taken there, and the first number of the pattern
  shell("true");
  output_in(network, "for i in 0 1 2 3 4 5 6 7 8 9; do ip link add net$i type veth peer name peer$i; done");
  expect_moved(move({"d1", "net%d", "d2", "same", "d3", "net%d"}, network));
  String shown = output_in(network, "ip -o link");
  CHECK(has(shown, " net10@") && has(shown, " net11@") && has(shown, " same@"));
  CHECK(!has(output_of("ip -o link"), " d1@"));
}

void moved_back() {
  shell(
      "ip link add d4 type veth peer name d4p && ip addr add 10.4.4.4/24 dev d4 && ip -6 addr add fd04::1/64 dev d4 "
      "nodad && "
      "ip link set d4 up && ip link add d5 type veth peer name d5p && ip addr add 10.5.5.5/24 dev d5 && ip link set d5 "
      "up");
  Fd network = new_network();
  output_in(network, "ip link add taken type veth peer name takenp");
  refused(move({"d4", "first", "d5", "taken"}, network), EEXIST, "linux.netDevices.d5 into the container as taken");
  String shown = output_of("ip addr show dev d4; ip addr show dev d5");
  CHECK(has(shown, "10.4.4.4/24") && has(shown, "fd04::1/64") && has(shown, "10.5.5.5/24"));
  CHECK(has(output_of("ip link show dev d4"), ",UP") && has(output_of("ip link show dev d5"), ",UP"));
  CHECK(!has(output_in(network, "ip link"), "first@"));
  refused(move({"d4", "first", "absent", "absent"}, network), ENODEV,
          "linux.netDevices.absent into the container as absent");
  CHECK(has(output_of("ip addr show dev d4"), "10.4.4.4/24"));
  refused(move({"lo", "lo0"}, network), EINVAL, "linux.netDevices.lo into the container as lo0");
  CHECK(has(output_of("ip link show lo"), "lo"));
}

// As caisson-oci does it, while the birth is held: the container finds the interface.
void into_a_container(World& w) {
  shell("ip link add d6 type veth peer name d6p && ip addr add 10.6.6.6/24 dev d6");
  Config c;
  c.namespaces = R"({"type":"mount"},{"type":"pid"},{"type":"network"})";
  c.linux = String(R"(,"netDevices":{"d6":{"name":"eth0"}})");
  c.script = "busybox ip addr show dev eth0";
  auto compiled = compile_container(config_json(w, c));
  if (!compiled) abort();
  auto plan = PlanView::parse({compiled->plan.data(), compiled->plan.size()});
  if (!plan) abort();
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) abort();
  Run run;
  run.out = Fd(fds[0]);
  Fd in(fds[1]);
  BirthRequest request;
  request.plan = &*plan;
  request.stdio[1] = request.stdio[2] = in.get();
  CHECK(!begin_birth(request));  // nobody would move it
  request.hold = true;
  auto birth = begin_birth(request);
  if (!birth) abort();
  run.pidfd = Fd(birth->pidfd.release());
  run.gate = Fd(birth->gate.release());
  in.reset();
  fcntl(run.gate.get(), F_SETFL, 0);
  Fd passed;
  auto held = read_gate(run.gate.get(), passed);
  CHECK(held && held->kind == GateReport::kHeld);
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(birth->pid)).append("/ns/net");
  Fd network(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  NetDevices devices;
  expect_moved(devices.move(*plan, network.get()));
  // Back, and in again: as when a hook fails.
  devices.move_back();
  CHECK(has(output_of("ip addr show dev d6"), "10.6.6.6/24"));
  CHECK(!has(output_of("ip addr show dev d6"), ",UP"));
  expect_moved(devices.move(*plan, network.get()));
  CHECK(release_gate(run.gate.get()));
  run.until_ready(*plan);
  release(run, *plan);
  end(run);
  expect_output(run, "inet 10.6.6.6/24", "in the container");
}

}  // namespace

int main() {
  return in_world([](World& world) {
    // a host of the test's own
    if (sys::unshare(uapi::kCloneNewnet) != 0) abort();
    if (system("ip link add probe type veth peer name probep 2>/dev/null") != 0) {
      fprintf(stderr, "skipped: no veth interfaces here\n");
      return;
    }
    moves_with_addresses();
    names_and_indices();
    moved_back();
    into_a_container(world);
  });
}
