// The gate as the parent of a birth sees it.
#include <sys/socket.h>

#include "core/launch.h"

namespace caisson {

Result<GateReport> read_gate(int gate, Fd& passed) {
  GateReport report;
  iovec part = {&report, sizeof report};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t n = 0;
  do n = recvmsg(gate, &header, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == ECONNRESET) return GateReport{};  // the stage ended with our release unread: the end all the same
    return Error::last("recvmsg", "gate");
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    passed.reset(fd);
  }
  if (n == 0) return GateReport{};
  if (n != static_cast<ssize_t>(sizeof report) || report.kind < GateReport::kChild ||
      report.kind > GateReport::kListener || report.group_count > GateReport::kGroupsMax ||
      report.step >= static_cast<u32>(Step::kCount))
    return Error(EPROTO, "recvmsg", "gate");
  return report;
}

Status release_gate(int gate, int state) {
  char byte = 0;
  iovec part = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (state >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &state, sizeof state);
  }
  ssize_t n = 0;
  do n = sendmsg(gate, &header, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n != 1) return Error::last("sendmsg", "gate");
  return ok();
}

}  // namespace caisson
