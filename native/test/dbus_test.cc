// The D-Bus client without a bus: messages byte for byte, and a peer at the other end of a socket pair.
#include "core/dbus.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "test/check.h"

using namespace caisson;

namespace {

constexpr int kTimeoutMs = 5'000;

Vec<u8> bytes_of(span<const u8> bytes) {
  Vec<u8> copy;
  for (u8 each : bytes) copy.push(each);
  return copy;
}

// A message from the other side: type, header fields beyond the usual ones, body.
Vec<u8> incoming(u8 type, u32 serial, u32 reply_serial, string_view member, string_view error, string_view signature,
                 const DbusWriter& body, string_view sender = ":1.1") {
  DbusWriter head;
  head.byte('l').byte(type).byte(0).byte(1).u32_value(static_cast<u32>(body.data().size())).u32_value(serial);
  head.begin_array(8);
  if (type == DbusMessage::kSignal) {
    head.begin_struct().byte(1).signature("o").object_path("/org/freedesktop/systemd1");
    head.begin_struct().byte(2).signature("s").string("org.freedesktop.systemd1.Manager");
    head.begin_struct().byte(3).signature("s").string(member);
  }
  if (!error.empty()) head.begin_struct().byte(4).signature("s").string(error);
  if (reply_serial != 0) head.begin_struct().byte(5).signature("u").u32_value(reply_serial);
  if (!sender.empty()) head.begin_struct().byte(7).signature("s").string(sender);
  if (!signature.empty()) head.begin_struct().byte(8).signature("g").signature(signature);
  head.begin_struct().byte(200).signature("u").u32_value(7);  // a field that nobody knows
  head.end_array().align(8);
  Vec<u8> all = bytes_of(head.data());
  for (u8 each : body.data()) all.push(each);
  return all;
}

void marshalling() {
  DbusWriter body;
  body.string("a").u64_value(5);
  const Vec<u8> call = marshal_dbus_call({"org.x", "/p", "org.x.I", "M", "st", body.data()}, 9);
  CHECK(call[0] == 'l' && call[1] == 1 && call[3] == 1 && call[8] == 9);
  CHECK(call.size() % 8 == 0);
  auto size = dbus_message_size(span<const u8>(call.data(), 16));
  CHECK(size && *size == call.size());
  auto parsed = parse_dbus_message({call.data(), call.size()});
  CHECK(parsed);
  if (!parsed) return;
  CHECK(parsed->path.view() == "/p" && parsed->interface.view() == "org.x.I" && parsed->member.view() == "M");
  DbusReader reader = parsed->reader();
  auto text = reader.string();
  CHECK(text && *text == "a");
  auto number = reader.u64_value();
  CHECK(number && *number == 5 && !reader.more());
  CHECK(!reader.u32_value());

  // a(sv) with arrays and a struct inside, as StartTransientUnit has them
  DbusWriter nested;
  nested.begin_array(8);
  nested.begin_struct().string("PIDs").signature("au").begin_array(4).u32_value(1).u32_value(2).end_array();
  nested.begin_struct().string("On").signature("b").boolean(true);
  const u8 mask[] = {3, 1};
  nested.begin_struct().string("Set").signature("ay").bytes(mask);
  nested.end_array().begin_array(8).end_array();
  const Vec<u8> whole = marshal_dbus_call({{}, "/p", {}, "M", "a(sv)a(sa(sv))", nested.data()}, 1);
  auto message = parse_dbus_message({whole.data(), whole.size()});
  CHECK(message);
  if (!message) return;
  DbusReader outer = message->reader();
  auto properties = outer.array();
  CHECK(properties && properties->begin_struct());
  CHECK(*properties->string() == "PIDs");
  auto pids = properties->variant();
  CHECK(pids && properties->end_struct());
  auto list = pids->array();
  CHECK(list && *list->u32_value() == 1 && list->more() && *list->u32_value() == 2 && !list->more());
  CHECK(properties->begin_struct() && *properties->string() == "On");
  auto on = properties->variant();
  CHECK(on && *on->boolean() && properties->end_struct());
  CHECK(properties->more() && properties->skip() && !properties->more());
  auto empty = outer.array();
  CHECK(empty && !empty->more() && !outer.more());
}

// Every prefix, and every message with one byte changed, is refused or read within its bounds (the sanitizers tell).
void hostile() {
  DbusWriter body;
  body.u32_value(1).object_path("/job/1").string("x.scope").string("done");
  const Vec<u8> good = incoming(DbusMessage::kSignal, 3, 0, "JobRemoved", {}, "uoss", body);
  CHECK(parse_dbus_message({good.data(), good.size()}));
  for (size_t n = 0; n < good.size(); ++n) {
    Vec<u8> cut = bytes_of({good.data(), n});  // of its own size, so that a read beyond it is seen
    CHECK(!parse_dbus_message({cut.data(), cut.size()}));
  }
  u32 accepted = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (u8 bit = 1; bit != 0; bit = static_cast<u8>(bit << 1)) {
      Vec<u8> changed = bytes_of({good.data(), good.size()});
      changed[i] ^= bit;
      auto parsed = parse_dbus_message({changed.data(), changed.size()});
      if (!parsed) continue;
      ++accepted;
      DbusReader reader = parsed->reader();
      while (reader.more() && reader.skip()) continue;
    }
  }
  CHECK(accepted != 0);

  struct Bad {
    const char* signature;
    const char* bytes;
    size_t size;
  };
  const Bad bad[] = {
      {"s", "\xff\xff\xff\xff", 4},           // a length beyond all
      {"s", "\1\0\0\0a", 5},                  // without its NUL
      {"s", "\1\0\0\0\0\0", 6},               // a NUL inside
      {"s", "\1\0\0\0\xff\0", 6},             // not UTF-8
      {"b", "\2\0\0\0", 4},                   // neither
      {"au", "\5\0\0\0\0\0\0\0\0", 9},        // not whole elements
      {"v", "\2yy\0\0\0", 6},                 // a variant of two types
      {"v", "\0\0", 2},                       // and of none
      {"v", "\1(\0", 3},                      // an open parenthesis
      {"u", "\1\0\0\0\0", 5},                 // more than the signature says
      {"yu", "\1\1\0\0\0\0\0\0", 8},          // padding that is not zero
      {"av", "\x08\0\0\0\1v\0\1v\0\1v", 12},  // a variant in a variant without an end
  };
  for (const Bad& each : bad) {
    DbusWriter raw;
    for (size_t i = 0; i < each.size; ++i) raw.byte(static_cast<u8>(each.bytes[i]));
    const Vec<u8> message = incoming(DbusMessage::kSignal, 1, 0, "X", {}, each.signature, raw);
    auto parsed = parse_dbus_message({message.data(), message.size()});
    CHECK(!parsed && parsed.error().err == EPROTO);
    if (parsed) fprintf(stderr, "accepted: %s\n", each.signature);
  }
  // Deep nesting ends at a bound instead of the stack.
  std::string deep(200, 'a');
  deep += 'y';
  DbusWriter raw;
  for (int i = 0; i < 200; ++i) raw.u32_value(0);
  const Vec<u8> message = incoming(DbusMessage::kSignal, 1, 0, "X", {}, deep, raw);
  CHECK(!parse_dbus_message({message.data(), message.size()}));
  Vec<u8> huge = bytes_of({good.data(), 16});
  huge[6] = 0xff;
  auto refused = dbus_message_size({huge.data(), 16});
  CHECK(!refused && refused.error().err == EMSGSIZE);
  huge[0] = 'B';
  auto foreign = dbus_message_size({huge.data(), 16});
  CHECK(!foreign && foreign.error().err == EPROTO);
}

void addresses() {
  const auto one = dbus_address_paths("unix:path=/run/dbus/system_bus_socket");
  CHECK(one.size() == 1 && one[0].view() == "/run/dbus/system_bus_socket");
  const auto many =
      dbus_address_paths("tcp:host=x;unix:abstract=/a;unix:guid=1,path=/with%20blank;unix:path=/b,guid=2");
  CHECK(many.size() == 2 && many[0].view() == "/with blank" && many[1].view() == "/b");
  for (const char* none : {"", "unix:", "unix:path=relative", "unix:path=/a%0", "unix:path=/a%00b", "unix:path=/a%zz"})
    CHECK(dbus_address_paths(none).empty());
  CHECK(dbus_address_paths({"unix:path=/a\0b", 14}).empty());
}

struct Peer {
  int fd;
  void send(string_view text) const { CHECK(write(fd, text.data(), text.size()) == ssize_t(text.size())); }
  void send(const Vec<u8>& bytes) const { CHECK(write(fd, bytes.data(), bytes.size()) == ssize_t(bytes.size())); }
  void expect(string_view text) const {
    std::string got(text.size(), '\0');
    CHECK(recv(fd, got.data(), got.size(), MSG_WAITALL) == ssize_t(got.size()) && string_view(got) == text);
  }
  DbusMessage receive() const {
    u8 head[16];
    CHECK(recv(fd, head, sizeof head, MSG_WAITALL) == 16);
    const size_t size = *dbus_message_size(head);
    Vec<u8> all = bytes_of(head);
    for (size_t i = 16; i < size; ++i) all.push(0);
    CHECK(recv(fd, all.data() + 16, size - 16, MSG_WAITALL) == ssize_t(size - 16));
    auto parsed = parse_dbus_message({all.data(), all.size()});
    CHECK(parsed);
    return parsed.take();
  }
};

// Runs `serve` in a child at the other end; the child's failed checks fail the test.
template <typename Serve>
pid_t peer(Fd& ours, Serve serve) {
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    close(fds[0]);
    test::failures = 0;
    serve(Peer{fds[1]});
    _exit(test::failures == 0 ? 0 : 1);
  }
  close(fds[1]);
  ours.reset(fds[0]);
  return pid;
}

void ended_well(pid_t pid) {
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

constexpr string_view kGreeting("\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", 29);

void conversation() {
  Fd ours;
  const pid_t pid = peer(ours, [](const Peer& other) {
    other.expect(kGreeting);
    other.send("DATA\r\nOK 0123456789abcdef\r\n");
    const DbusMessage hello = other.receive();
    CHECK(hello.member.view() == "Hello" && hello.serial == 1);
    DbusWriter name;
    name.string(":1.5");
    other.send(incoming(DbusMessage::kReturn, 1, 1, {}, {}, "s", name));
    const DbusMessage call = other.receive();
    CHECK(call.member.view() == "Do" && call.serial == 2);
    DbusWriter body;
    body.u32_value(4).object_path("/job/4").string("u").string("done");
    // An answer to something else, a signal in two pieces with a wait between, then the answer.
    other.send(incoming(DbusMessage::kReturn, 2, 77, {}, {}, {}, DbusWriter()));
    const Vec<u8> signal = incoming(DbusMessage::kSignal, 3, 0, "JobRemoved", {}, "uoss", body);
    other.send(string_view(reinterpret_cast<const char*>(signal.data()), 20));
    usleep(20'000);
    other.send(string_view(reinterpret_cast<const char*>(signal.data()) + 20, signal.size() - 20));
    other.send(incoming(DbusMessage::kReturn, 4, 2, {}, {}, {}, DbusWriter()));
    other.receive();
    DbusWriter text;
    text.string("no such thing");
    other.send(incoming(DbusMessage::kError, 5, 3, {}, "org.freedesktop.systemd1.NoSuchUnit", "s", text));
  });
  auto connection = DbusConnection::open(static_cast<Fd&&>(ours), true, kTimeoutMs);
  CHECK(connection);
  if (connection) {
    const Deadline deadline(kTimeoutMs);
    auto answer = connection->call({"x.y", "/p", "x.y", "Do", {}, {}}, deadline);
    CHECK(answer && answer->type == DbusMessage::kReturn && answer->serial == 4);
    auto signal = connection->signal(deadline);
    CHECK(signal && signal->member.view() == "JobRemoved");
    auto refused = connection->call({"x.y", "/p", "x.y", "Do", {}, {}}, deadline);
    CHECK(refused && refused->type == DbusMessage::kError &&
          refused->error.view() == "org.freedesktop.systemd1.NoSuchUnit");
    auto closed = connection->signal(deadline);
    CHECK(!closed && closed.error().err == ECONNRESET);
  }
  ended_well(pid);
}

void refusals() {
  Fd ours;
  pid_t pid = peer(ours, [](const Peer& other) {
    other.expect(kGreeting);
    other.send("REJECTED EXTERNAL\r\n");
  });
  auto rejected = DbusConnection::open(static_cast<Fd&&>(ours), true, kTimeoutMs);
  CHECK(!rejected && rejected.error().err == EACCES && string_view(rejected.error().object) == "REJECTED EXTERNAL");
  ended_well(pid);

  pid = peer(ours, [](const Peer& other) {
    other.expect(kGreeting);
    other.send(std::string(5000, 'x'));
  });
  auto endless = DbusConnection::open(static_cast<Fd&&>(ours), true, kTimeoutMs);
  CHECK(!endless && endless.error().err == EPROTO);
  ended_well(pid);

  pid = peer(ours, [](const Peer& other) {
    other.expect(kGreeting);
    char c;
    CHECK(read(other.fd, &c, 1) == 0);
  });
  auto silent = DbusConnection::open(static_cast<Fd&&>(ours), true, 50);
  CHECK(!silent && silent.error().err == ETIMEDOUT);
  ours.reset();
  ended_well(pid);

  // Nobody reads and nobody answers: a time-out, too.
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  Fd other(fds[1]);
  CHECK(write(other.get(), "OK 1\r\n", 6) == 6);
  auto direct = DbusConnection::open(Fd(fds[0]), false, kTimeoutMs);
  CHECK(direct && !direct->bus());
  const Vec<u8> large = [] {
    Vec<u8> body;
    for (int i = 0; i < 1 << 20; ++i) body.push(0);
    return body;
  }();
  auto stuck = direct->call({{}, "/p", {}, "M", "ay", {large.data(), large.size()}}, Deadline(50));
  CHECK(!stuck && stuck.error().err == ETIMEDOUT);
}

// A path that is longer than sun_path.
void long_path() {
  char directory[] = "/tmp/caisson-dbus-XXXXXX";
  CHECK(mkdtemp(directory) != nullptr);
  std::string path(directory);
  path += "/" + std::string(120, 'd');
  CHECK(mkdir(path.c_str(), 0700) == 0);
  CHECK(chdir(path.c_str()) == 0);
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, "s", 2);
  CHECK(bind(listener.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) == 0);
  auto early = connect_stream_socket(path + "/s", 20);
  CHECK(!early && early.error().err == ECONNREFUSED);
  CHECK(listen(listener.get(), 1) == 0);
  CHECK(connect_stream_socket(path + "/s", 1000));
  auto absent = connect_stream_socket(path + "/none", 1000);
  CHECK(!absent && absent.error().err == ENOENT);
  CHECK(unlink("s") == 0 && chdir("/") == 0 && rmdir(path.c_str()) == 0 && rmdir(directory) == 0);
}

}  // namespace

int main() {
  signal(SIGPIPE, SIG_IGN);
  marshalling();
  hostile();
  addresses();
  conversation();
  refusals();
  long_path();
  return test::done();
}
