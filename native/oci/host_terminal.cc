#include "oci/host_terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "oci/files.h"

namespace caisson::oci {

Status HostTerminal::open(Fd master) {
  master_ = static_cast<Fd&&>(master);
  if (fcntl(master_.get(), F_SETFL, O_NONBLOCK) != 0) return Error::last("fcntl", "the container's terminal");
  // The caller's terminal adds the carriage returns; a pipe wants none.
  termios inside{};
  if (tcgetattr(master_.get(), &inside) != 0) return Error::last("tcgetattr", "the container's terminal");
  inside.c_oflag &= ~static_cast<tcflag_t>(ONLCR);
  if (tcsetattr(master_.get(), TCSANOW, &inside) != 0) return Error::last("tcsetattr", "the container's terminal");

  for (const int fd : {STDERR_FILENO, STDOUT_FILENO, STDIN_FILENO})
    if (host_ < 0 && isatty(fd) == 1) host_ = fd;
  if (host_ < 0) {
    tty_.reset(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
    host_ = tty_.get();
  }
  if (host_ < 0) return ok();  // nobody's terminal: bytes are passed on as they come
  if (tcgetattr(host_, &before_) != 0) return Error::last("tcgetattr", "the caller's terminal");
  termios raw = before_;
  cfmakeraw(&raw);
  raw.c_oflag |= OPOST;  // our own messages are lines still
  if (tcsetattr(host_, TCSANOW, &raw) != 0) return Error::last("tcsetattr", "the caller's terminal");
  raw_ = true;
  resize();
  return ok();
}

HostTerminal::~HostTerminal() {
  if (raw_) tcsetattr(host_, TCSANOW, &before_);
}

void HostTerminal::resize() {
  winsize size{};
  // Either end may have gone, which is no reason to stop.
  if (host_ >= 0 && ioctl(host_, TIOCGWINSZ, &size) == 0) ioctl(master_.get(), TIOCSWINSZ, &size);
}

HostTerminal::Interest HostTerminal::interest() const {
  Interest wanted;
  if (!master_) return wanted;
  wanted.master = static_cast<short>(POLLIN | (filled_ > at_ ? POLLOUT : 0));
  wanted.input = input_open_ && filled_ == at_ ? POLLIN : 0;
  return wanted;
}

void HostTerminal::handle(short input, short master) {
  if (!master_) return;
  if (input != 0) from_input();
  if ((master & POLLOUT) != 0 && filled_ > at_) {
    const ssize_t n = write(master_.get(), pending_ + at_, filled_ - at_);
    if (n > 0) at_ += static_cast<size_t>(n);
  }
  if ((master & (POLLIN | POLLHUP | POLLERR)) != 0 && !from_master()) master_.reset();
}

void HostTerminal::from_input() {
  const ssize_t n = read(STDIN_FILENO, pending_, sizeof pending_);
  at_ = filled_ = 0;
  if (n > 0)
    filled_ = static_cast<size_t>(n);
  else if (n == 0 || (errno != EINTR && errno != EAGAIN))
    input_open_ = false;
}

// False: nobody holds the other end any more (EIO), or nobody reads what it says.
bool HostTerminal::from_master() {
  char chunk[16 * 1024];
  const ssize_t n = read(master_.get(), chunk, sizeof chunk);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  return n > 0 && print({chunk, static_cast<size_t>(n)});
}

void HostTerminal::drain() {
  // The end of the process says nothing about its children that hold the terminal: what is there now is shown.
  pollfd fd = {master_.get(), POLLIN, 0};
  while (master_ && poll(&fd, 1, 0) > 0 && from_master()) {
  }
}

}  // namespace caisson::oci
