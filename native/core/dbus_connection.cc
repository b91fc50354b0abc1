#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "core/dbus.h"

namespace caisson {
namespace {

constexpr size_t kSignalsMax = 1024;  // kept while an answer is awaited
constexpr size_t kLineMax = 1024;     // of SASL

constexpr string_view kBusName = "org.freedesktop.DBus";

Status wait_for(int socket, short events, const Deadline& deadline) {
  for (;;) {
    struct pollfd one = {socket, events, 0};
    const int ready = poll(&one, 1, deadline.left_ms());
    if (ready > 0) return ok();
    if (ready == 0) return Error(ETIMEDOUT, "poll", "D-Bus");
    if (errno != EINTR) return Error::last("poll", "D-Bus");
  }
}

// A descriptor whose file is the socket: sun_path ends at 108 bytes, /proc/self/fd/N does not.
Result<Fd> open_socket_file(string_view path) {
  const String name(path);
  Fd file(open(name.c_str(), O_PATH | O_CLOEXEC));
  if (!file) return Error::last("open", path);
  return file;
}

}  // namespace

Result<Fd> connect_stream_socket(string_view path, int timeout_ms) {
  Fd file = CAISSON_TRY(open_socket_file(path));
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::last("socket", path);
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  String name("/proc/self/fd/");
  name.append_u64(static_cast<u64>(file.get()));
  memcpy(address.sun_path, name.c_str(), name.size());
  const Deadline deadline(timeout_ms);
  for (;;) {
    if (connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) == 0) return fd;
    // A full backlog answers EAGAIN, and nothing can be polled for its end.
    if ((errno != EAGAIN && errno != EINTR) || deadline.left_ms() == 0) return Error::last("connect", path);
    const struct timespec pause = {0, 5'000'000};
    nanosleep(&pause, nullptr);
  }
}

Vec<String> dbus_address_paths(string_view address) {
  auto hex = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  Vec<String> paths;
  while (!address.empty()) {
    const size_t end = address.find(';');
    string_view entry = part(address, 0, end);
    address = end == address.npos ? string_view() : part(address, end + 1);
    constexpr string_view kUnix = "unix:";
    if (!entry.starts_with(kUnix)) continue;
    entry.remove_prefix(kUnix.size());
    while (!entry.empty()) {
      const size_t comma = entry.find(',');
      const string_view pair = part(entry, 0, comma);
      entry = comma == entry.npos ? string_view() : part(entry, comma + 1);
      constexpr string_view kPathKey = "path=";
      if (!pair.starts_with(kPathKey)) continue;
      String path;
      bool valid = true;
      for (size_t i = kPathKey.size(); i < pair.size(); ++i) {
        if (pair[i] != '%') {
          valid = valid && pair[i] != '\0';
          path.append(pair[i]);
          continue;
        }
        const int high = i + 2 < pair.size() ? hex(pair[i + 1]) : -1;
        const int low = i + 2 < pair.size() ? hex(pair[i + 2]) : -1;
        valid = valid && high >= 0 && low >= 0 && high + low != 0;
        if (!valid) break;
        path.append(static_cast<char>(high * 16 + low));
        i += 2;
      }
      if (valid && path.view().starts_with('/')) paths.push(static_cast<String&&>(path));
    }
  }
  return paths;
}

Result<DbusConnection> DbusConnection::open(Fd socket, bool bus, int timeout_ms) {
  const int flags = fcntl(socket.get(), F_GETFL);
  if (flags < 0 || fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0) return Error::last("fcntl", "D-Bus");
  DbusConnection connection(static_cast<Fd&&>(socket));
  const Deadline deadline(timeout_ms);
  CAISSON_TRY(connection.authenticate(deadline));
  connection.bus_ = bus;
  if (bus) {
    const DbusMessage hello =
        CAISSON_TRY(connection.call({kBusName, "/org/freedesktop/DBus", kBusName, "Hello", {}, {}}, deadline));
    if (hello.type != DbusMessage::kReturn) return Error(EACCES, "D-Bus Hello", hello.error);
  }
  return connection;
}

// EXTERNAL without an identity: the peer takes the one that the kernel tells it. A number of ours would be wrong where
// this process and the bus are in different user namespaces.
Status DbusConnection::authenticate(const Deadline& deadline) {
  static constexpr char kBegin[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
  CAISSON_TRY(send_all({reinterpret_cast<const u8*>(kBegin), sizeof kBegin - 1}, deadline));
  for (;;) {
    size_t end = 0;
    while (end < buffer_.size() && buffer_[end] != '\n') ++end;
    if (end == buffer_.size()) {
      if (end > kLineMax) return Error(EPROTO, "D-Bus authentication", "a line over 1024 bytes");
      CAISSON_TRY(receive(1, deadline));
      continue;
    }
    String line;
    for (size_t i = 0; i < end && buffer_[i] != '\r'; ++i) line.append(static_cast<char>(buffer_[i]));
    Vec<u8> rest;
    for (size_t i = end + 1; i < buffer_.size(); ++i) rest.push(buffer_[i]);
    buffer_ = static_cast<Vec<u8>&&>(rest);
    if (line.view() == "DATA") continue;  // it asks for the identity, which has been sent
    if (line.view().starts_with("OK ") || line.view() == "OK") return ok();
    return Error(EACCES, "D-Bus authentication", line);
  }
}

Status DbusConnection::send_all(span<const u8> bytes, const Deadline& deadline) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
      continue;
    }
    if (errno == EAGAIN)
      CAISSON_TRY(wait_for(socket_.get(), POLLOUT, deadline));
    else if (errno != EINTR)
      return Error::last("send", "D-Bus");
  }
  return ok();
}

// Waits until `size` bytes more are there than before.
Status DbusConnection::receive(size_t size, const Deadline& deadline) {
  const size_t wanted = buffer_.size() + size;
  while (buffer_.size() < wanted) {
    u8 chunk[4096];
    const ssize_t n = recv(socket_.get(), chunk, sizeof chunk, 0);
    if (n == 0) return Error(ECONNRESET, "recv", "D-Bus: the peer closed the connection");
    if (n > 0) {
      for (ssize_t i = 0; i < n; ++i) buffer_.push(chunk[i]);
      continue;
    }
    if (errno == EAGAIN)
      CAISSON_TRY(wait_for(socket_.get(), POLLIN, deadline));
    else if (errno != EINTR)
      return Error::last("recv", "D-Bus");
  }
  return ok();
}

Result<DbusMessage> DbusConnection::next(const Deadline& deadline) {
  if (buffer_.size() < 16) CAISSON_TRY(receive(16 - buffer_.size(), deadline));
  const size_t size = CAISSON_TRY(dbus_message_size({buffer_.data(), 16}));
  if (buffer_.size() < size) CAISSON_TRY(receive(size - buffer_.size(), deadline));
  DbusMessage message = CAISSON_TRY(parse_dbus_message({buffer_.data(), size}));
  Vec<u8> rest;
  for (size_t i = size; i < buffer_.size(); ++i) rest.push(buffer_[i]);
  buffer_ = static_cast<Vec<u8>&&>(rest);
  return message;
}

Result<DbusMessage> DbusConnection::call(const DbusCall& call, const Deadline& deadline) {
  const u32 serial = ++serial_;
  const Vec<u8> bytes = marshal_dbus_call(call, serial);
  CAISSON_TRY(send_all({bytes.data(), bytes.size()}, deadline));
  for (;;) {
    DbusMessage message = CAISSON_TRY(next(deadline));
    const bool answer = message.type == DbusMessage::kReturn || message.type == DbusMessage::kError;
    if (answer && message.reply_serial == serial) return message;
    if (message.type != DbusMessage::kSignal) continue;
    if (signals_.size() == kSignalsMax) return Error(ENOBUFS, "D-Bus", "too many signals");
    signals_.push(static_cast<DbusMessage&&>(message));
  }
}

Result<DbusMessage> DbusConnection::signal(const Deadline& deadline) {
  if (!signals_.empty()) {
    DbusMessage first = static_cast<DbusMessage&&>(signals_[0]);
    Vec<DbusMessage> rest;
    for (size_t i = 1; i < signals_.size(); ++i) rest.push(static_cast<DbusMessage&&>(signals_[i]));
    signals_ = static_cast<Vec<DbusMessage>&&>(rest);
    return first;
  }
  for (;;) {
    DbusMessage message = CAISSON_TRY(next(deadline));
    if (message.type == DbusMessage::kSignal) return message;
  }
}

}  // namespace caisson
