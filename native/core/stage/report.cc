// The gate as a stage sees it: reports out, the release in.
#include <sys/socket.h>

#include "core/passing.h"
#include "core/stage/stage.h"

namespace caisson {

bool Stage::try_report(GateReport& message, int fd) const {
  return send_passing(gate, &message, sizeof message, fd) >= 0;
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
  int state = -1;
  if (receive_passing(s.gate, &byte, 1, state) != 1) return false;
  if (state < 0) return true;
  if (s.state >= 0) close(s.state);
  s.state = state;
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
