// Messages to a service manager: by path, by abstract name, to nobody, and to one whose queue is full.
#include "core/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "check.h"
#include "core/fd.h"

using namespace caisson;

namespace {

Fd manager(const std::string& address) {
  struct sockaddr_un at {};
  at.sun_family = AF_UNIX;
  memcpy(at.sun_path, address.data(), address.size());
  const bool abstract = address[0] == '@';
  if (abstract) at.sun_path[0] = '\0';
  Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto size =
      static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + address.size() + (abstract ? 0 : 1));
  CHECK(bind(fd.get(), reinterpret_cast<struct sockaddr*>(&at), size) == 0);
  return fd;
}

std::string heard(const Fd& fd) {
  char text[256];
  const ssize_t n = recv(fd.get(), text, sizeof text, 0);
  return n < 0 ? "" : std::string(text, static_cast<size_t>(n));
}

}  // namespace

int main() {
  char directory[] = "/tmp/notify-test-XXXXXX";
  CHECK(mkdtemp(directory) != nullptr);
  const std::string path = std::string(directory) + "/notify";
  // an abstract name may fill the field: 107 bytes after the NUL
  std::string abstract = "@" + std::string(directory);
  abstract.resize(sizeof sockaddr_un{}.sun_path, 'x');
  for (const std::string& address : {path, abstract}) {
    const Fd listener = manager(address);
    CHECK(static_cast<bool>(notify_manager(address, "READY=1\nSTATUS=x", 1000)));
    CHECK(heard(listener) == "READY=1\nSTATUS=x");
    CHECK(heard(listener).empty());
    int err = 0;
    for (int i = 0; i < 100'000 && err == 0; ++i) {
      const Status status = notify_manager(address, "WATCHDOG=1", 1);
      if (!status) err = status.error().err;
    }
    CHECK(err == EAGAIN);
  }
  CHECK(unlink(path.c_str()) == 0);
  CHECK(notify_manager(path, "READY=1", 1000).error().err == ENOENT);
  CHECK(notify_manager(abstract, "READY=1", 1000).error().err == ECONNREFUSED);
  for (const std::string& address :
       {std::string(), std::string("/"), std::string("@"), std::string("relative"), std::string("vsock:2:1"),
        "/" + std::string(107, 'x'), "@" + std::string(108, 'x')})
    CHECK(notify_manager(address, "READY=1", 1000).error().err == EINVAL);
  CHECK(rmdir(directory) == 0);
  return test::done();
}
