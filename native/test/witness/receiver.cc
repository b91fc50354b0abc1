#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/fd.h"
#include "test/witness/witness.h"

namespace caisson::witness {
namespace {

// What was sent beside the first message of a connection.
Fd receive(int connection, String& payload) {
  char text[4096];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec data = {text, sizeof text};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
  if (got > 0) payload.append(string_view(text, static_cast<size_t>(got)));
  cmsghdr* header = got < 0 ? nullptr : CMSG_FIRSTHDR(&message);
  int fd = -1;
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return Fd(fd);
}

void copy_terminal(int terminal) {
  char text[4096];
  for (;;) {
    ssize_t got = read(terminal, text, sizeof text);
    // EIO: the other side is closed
    if (got <= 0) return;
    if (write(STDOUT_FILENO, text, static_cast<size_t>(got)) != got) return;
  }
}

}  // namespace

int receive_descriptor(const char* path) {
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 1;
  if (listen(listener.get(), 1) != 0) return 1;
  Fd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  String payload;
  Fd fd = receive(connection.get(), payload);
  String out;
  JsonWriter json(out);
  struct stat status = {};
  bool terminal = fd && isatty(fd.get()) == 1;
  json.begin_object().member("payload", payload).member("descriptor", fd && fstat(fd.get(), &status) == 0);
  json.member("terminal", terminal).end_object();
  out.append('\n');
  if (write(STDOUT_FILENO, out.c_str(), out.size()) < 0) return 1;
  if (terminal) copy_terminal(fd.get());
  return 0;
}

}  // namespace caisson::witness
