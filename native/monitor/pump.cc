#include "monitor/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/clock.h"
#include "monitor/report.h"
#include "monitor/scratch.h"

namespace caisson::monitor {

Status Pump::start(Fd input, bool terminal) {
  int flags = fcntl(input.get(), F_GETFL);
  if (flags < 0 || fcntl(input.get(), F_SETFL, flags | O_NONBLOCK) != 0) return Error::last("fcntl");
  source_.on_events.bind<&Pump::on_readable>(this);
  retry_.on_expiry.bind<&Pump::on_retry>(this);
  CAISSON_TRY(source_.watch(loop_, input.get(), EPOLLIN));
  input_ = static_cast<Fd&&>(input);
  terminal_ = terminal;
  return ok();
}

void Pump::on_readable(u32) {
  ssize_t n = read(input_.get(), scratch, kScratchSize);
  if (n > 0) {
    string_view bytes(scratch, static_cast<size_t>(n));
    stream_.feed(file_, bytes, realtime_ns());
    return audience_.tell(bytes);
  }
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0 && errno == EIO && terminal_ && !ending_) {
    // No process has the slave open at the moment (pty(7)); one may open it again, as getty does. The hang-up would be
    // reported at once, for ever, so the master is looked at later.
    source_.unwatch();
    retry_.arm_in(loop_, 100 * kMillisecond);
    return;
  }
  if (n < 0 && !(errno == EIO && terminal_)) {
    Error error = Error::last("read", "output");
    report(Level::kError, "the output of a container cannot be read", {}, &error);
  }
  end();
}

void Pump::on_retry() {
  if (auto watched = source_.watch(loop_, input_.get(), EPOLLIN); !watched) end();
}

void Pump::expect_end() {
  ending_ = true;
  if (!retry_.armed()) return;
  retry_.cancel();
  on_retry();
}

void Pump::stop() {
  if (!open()) return;
  source_.unwatch();
  retry_.cancel();
  input_.reset();
  stream_.finish(file_, realtime_ns());
  audience_.end();
}

void Pump::end() {
  stop();
  on_end();
}

void Pump::save(HandoverWriter& out, string_view key) const {
  if (!open()) return;
  out.json().key(key);
  out.json().begin_object();
  out.fd("input", input_);
  out.json().member("terminal", terminal_);
  out.json().member("ending", ending_);
  audience_.save(out, "audience");
  if (!stream_.pending().empty()) out.bytes("pending", stream_.pending());
  out.json().end_object();
}

void Pump::restore(const JsonValue& value) {
  Fd input = inherited_fd(value["input"]);
  if (!input) return;
  ending_ = value["ending"].bool_or(false);
  String pending = inherited_bytes(value["pending"]);
  stream_.set_pending(pending);
  audience_.restore(value["audience"]);
  if (auto started = start(static_cast<Fd&&>(input), value["terminal"].bool_or(false)); !started)
    report(Level::kError, "the output of a container cannot be read", {}, &started.error());
}

}  // namespace caisson::monitor
