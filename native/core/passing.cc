#include "core/passing.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

namespace caisson {

namespace {

// Room for one descriptor, laid out and aligned as cmsg(3) wants it.
struct Control {
  alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(int))] = {};
};

msghdr message_of(iovec& data, Control& control) {
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  return message;
}

}  // namespace

ssize_t send_passing(int socket, const void* data, size_t size, int fd) {
  iovec vector = {const_cast<void*>(data), size};
  Control control;
  msghdr message = message_of(vector, control);
  if (fd >= 0) {
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  } else {
    message.msg_control = nullptr;
    message.msg_controllen = 0;
  }
  ssize_t n = 0;
  do n = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n;
}

ssize_t receive_passing(int socket, void* data, size_t size, int& fd) {
  fd = -1;
  iovec vector = {data, size};
  Control control;
  msghdr message = message_of(vector, control);
  ssize_t n = 0;
  do n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return n;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);  // there is room for no second one
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof fd))
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return n;
}

}  // namespace caisson
