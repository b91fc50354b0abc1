// A monitor under test, its client, and what a test makes for it: state directory, cgroup, root file system, plans.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/compile.h"
#include "core/json.h"
#include "core/memfd.h"
#include "core/plan.h"
#include "monitor/frame.h"
#include "test/check.h"

namespace caisson::test {

struct Reply {
  FrameHeader header{};
  String text;
  monitor::FdList fds;
  bool arrived = false;
  bool ok() const { return arrived && (header.flags & kFlagError) == 0; }
  JsonDocument json() const {
    auto document = JsonDocument::parse(text.empty() ? string_view("{}") : text.view());
    if (!document) abort();
    return document.take();
  }
  // Descriptor `index` read whole.
  String content(u32 index) const {
    String out;
    char chunk[4096];
    ssize_t n;
    for (off_t at = 0; (n = pread(fds.items[index].get(), chunk, sizeof chunk, at)) > 0; at += n)
      out.append(string_view(chunk, static_cast<size_t>(n)));
    return out;
  }
};

class Client {
 public:
  explicit Client(int directory) {
    socket_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/control", directory);
    connected_ = connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  bool connected() const { return connected_; }
  int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }

  u32 send(FrameType type, string_view payload, std::initializer_list<int> fds = {}) {
    monitor::Frame frame;
    frame.header.type = static_cast<u16>(type);
    frame.header.request = ++next_;
    frame.payload.append(payload);
    for (int fd : fds) frame.fds.push(Fd(fcntl(fd, F_DUPFD_CLOEXEC, 0)));
    auto sent = monitor::send_frame(socket_.get(), frame);
    return sent ? next_ : 0;
  }
  // The reply to `request`; events on the way are kept. Not arrived: EOF or time-out.
  Reply receive(u32 request, int timeout_ms = 10'000) {
    for (size_t i = 0; i < kept_.size(); ++i)
      if (kept_[i].header.request == request && (kept_[i].header.flags & kFlagReply) != 0) return take(i);
    for (Reply reply = next(timeout_ms); reply.arrived; reply = next(timeout_ms)) {
      if ((reply.header.flags & kFlagReply) != 0 && reply.header.request == request) return reply;
      kept_.push(static_cast<Reply&&>(reply));
    }
    return Reply();
  }
  Reply event(FrameType type, int timeout_ms = 10'000) {
    for (size_t i = 0; i < kept_.size(); ++i)
      if (kept_[i].header.type == static_cast<u16>(type) && (kept_[i].header.flags & kFlagEvent) != 0) return take(i);
    for (Reply reply = next(timeout_ms); reply.arrived; reply = next(timeout_ms)) {
      if (reply.header.type == static_cast<u16>(type) && (reply.header.flags & kFlagEvent) != 0) return reply;
      kept_.push(static_cast<Reply&&>(reply));
    }
    return Reply();
  }
  Reply call(FrameType type, string_view payload = "{}", std::initializer_list<int> fds = {}) {
    u32 request = send(type, payload, fds);
    return request == 0 ? Reply() : receive(request);
  }
  // Whether the monitor has hung up. ECONNRESET is told once, before what is still queued: it had requests unread.
  bool closed(int timeout_ms = 5000) {
    pollfd ready{socket_.get(), POLLIN, 0};
    while (poll(&ready, 1, timeout_ms) == 1) {
      char byte;
      ssize_t n = recv(socket_.get(), &byte, 1, MSG_DONTWAIT);
      if (n <= 0) return n == 0 || errno == ECONNRESET;
    }
    return false;
  }

 private:
  Reply take(size_t index) {
    Reply found = static_cast<Reply&&>(kept_[index]);
    Vec<Reply> rest;
    for (size_t i = 0; i < kept_.size(); ++i)
      if (i != index) rest.push(static_cast<Reply&&>(kept_[i]));
    kept_ = static_cast<Vec<Reply>&&>(rest);
    return found;
  }
  Reply next(int timeout_ms) {
    Reply reply;
    pollfd ready{socket_.get(), POLLIN, 0};
    if (poll(&ready, 1, timeout_ms) != 1) return reply;
    monitor::Frame frame;
    auto got = monitor::receive_frame(socket_.get(), frame);
    if (!got || !*got) return reply;
    reply.header = frame.header;
    reply.text = static_cast<String&&>(frame.payload);
    reply.fds = static_cast<monitor::FdList&&>(frame.fds);
    reply.arrived = true;
    return reply;
  }
  Fd socket_;
  bool connected_ = false;
  u32 next_ = 0;
  Vec<Reply> kept_;
};

// "…" with every @ replaced by `id`.
inline String with_id(string_view text, string_view id) {
  String out;
  for (char c : text) {
    if (c == '@')
      out.append(id);
    else
      out.append(c);
  }
  return out;
}

inline String read_at(int directory, const char* name) {
  String out;
  Fd file(openat(directory, name, O_RDONLY | O_CLOEXEC));
  char chunk[4096];
  ssize_t n;
  while (file && (n = read(file.get(), chunk, sizeof chunk)) > 0)
    out.append(string_view(chunk, static_cast<size_t>(n)));
  return out;
}

inline bool exists_at(int directory, const char* name) {
  return faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

template <typename F>
bool eventually(F holds, int timeout_ms = 5000) {
  for (int waited = 0;; waited += 5) {
    if (holds()) return true;
    if (waited >= timeout_ms) return false;
    usleep(5000);
  }
}

}  // namespace caisson::test
