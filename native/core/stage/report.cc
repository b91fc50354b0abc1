// The gate as a stage sees it: reports out, the release in.
#include <sys/socket.h>

#include "core/stage/stage.h"

namespace caisson {

void Stage::report(GateReport& message, int fd) {
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
  // Nobody listens: the parent has given up or died, and what it began must not go on.
  if (sendmsg(gate, &header, MSG_NOSIGNAL) < 0) _exit(1);
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

void wait_for_release(Stage& s) {
  char byte = 0;
  ssize_t n = 0;
  do n = read(s.gate, &byte, 1);
  while (n < 0 && errno == EINTR);
  if (n != 1) _exit(1);
}

}  // namespace caisson
