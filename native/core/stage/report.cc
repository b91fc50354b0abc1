// The gate as a stage sees it: reports out, the release in.
#include <sys/socket.h>

#include "core/stage/stage.h"

namespace caisson {

bool Stage::try_report(GateReport& message, int fd) const {
  iovec part = {&message, sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  return sendmsg(gate, &header, MSG_NOSIGNAL) >= 0;
}

void Stage::report(GateReport& message, int fd) {
  // Nobody listens: the parent has given up or died, and what it began must not go on.
  if (!try_report(message, fd)) _exit(1);
}

void Stage::fail(int err) {
  GateReport message;
  message.kind = GateReport::kFailed;
  message.step = static_cast<u32>(step);
  message.err = err;
  message.index = index;
  if (!found.empty()) memcpy(message.found, found.data(), part(found, 0, sizeof message.found - 1).size());
  report(message);
  _exit(1);
}

namespace {

// False when whoever holds the other end has gone.
bool take_release(Stage& s) {
  char byte = 0;
  iovec part = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t n = 0;
  do n = recvmsg(s.gate, &header, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n != 1) return false;
  const cmsghdr* c = CMSG_FIRSTHDR(&header);
  if (c == nullptr || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) return true;
  if (s.state >= 0) close(s.state);
  memcpy(&s.state, CMSG_DATA(c), sizeof s.state);
  return true;
}

}  // namespace

void wait_for_release(Stage& s) {
  if (!take_release(s)) _exit(1);
}

void wait_for_start(Stage& s) {
  wait_for_release(s);
  if (s.listener < 0) return;
  close(s.gate);
  for (;;) {
    s.gate = accept4(s.listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (s.gate < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (s.gate < 0) _exit(1);
    // A starter that died before it said so has started nothing: the next one may.
    if (take_release(s)) break;
    close(s.gate);
  }
  close(s.listener);
  s.listener = -1;
}

}  // namespace caisson
