// The caller's terminal, and its traffic with the terminal of a container: what a foreground `run -t` or `exec -t` is.
#pragma once

#include <termios.h>

#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::oci {

class HostTerminal {
 public:
  // Takes the pty master. The caller's own terminal, if there is one among its standard descriptors or as /dev/tty, is
  // made raw until this goes. Errors: those of ioctl_tty(2).
  Status open(Fd master);
  ~HostTerminal();
  HostTerminal() = default;
  HostTerminal(const HostTerminal&) = delete;
  HostTerminal& operator=(const HostTerminal&) = delete;

  bool is_open() const { return static_cast<bool>(master_); }
  int master() const { return master_.get(); }
  // The size of the caller's terminal, as it is now.
  void resize();

  // For poll(2): what to wait for on stdin and on the master, and what came of it. POLLIN on stdin is asked for only
  // when what was read before has been taken.
  struct Interest {
    short input = 0;
    short master = 0;
  };
  Interest interest() const;
  void handle(short input, short master);
  // What is still to be shown after the end of the process.
  void drain();

 private:
  void from_input();
  bool from_master();
  Fd master_;
  Fd tty_;         // /dev/tty, opened by us
  int host_ = -1;  // the terminal that is raw
  bool raw_ = false;
  bool input_open_ = true;
  termios before_ = {};
  size_t at_ = 0;
  size_t filled_ = 0;
  char pending_[4096];
};

}  // namespace caisson::oci
