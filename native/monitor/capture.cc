#include "monitor/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monitor/frame.h"
#include "monitor/report.h"
#include "monitor/scratch.h"

namespace caisson::monitor {

Status Capture::start(Fd input, u64 limit) {
  memfd_.reset(memfd_create("caisson-exec", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd_) return Error::last("memfd_create");
  limit_ = limit;
  return attach(static_cast<Fd&&>(input));
}

Status Capture::attach(Fd input) {
  source_.unwatch();
  input_ = static_cast<Fd&&>(input);
  int flags = fcntl(input_.get(), F_GETFL);
  if (flags < 0 || fcntl(input_.get(), F_SETFL, flags | O_NONBLOCK) != 0) return Error::last("fcntl");
  return watch();
}

Status Capture::watch() {
  source_.on_events.bind<&Capture::on_readable>(this);
  return source_.watch(loop_, input_.get(), EPOLLIN);
}

void Capture::on_readable(u32) {
  ssize_t n = read(input_.get(), scratch, kScratchSize);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    close();
    on_end();
    return;
  }
  size_t size = static_cast<size_t>(n);
  if (memfd_) {
    size_t keep = size < limit_ - kept_ ? size : static_cast<size_t>(limit_ - kept_);
    for (size_t at = 0; at < keep;) {
      ssize_t written = pwrite(memfd_.get(), scratch + at, keep - at, static_cast<off_t>(kept_));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        Error error = Error::last("pwrite", "output of exec");
        report(Level::kError, "the output of an exec is cut short", {}, &error);
        limit_ = kept_;
        break;
      }
      at += static_cast<size_t>(written);
      kept_ += static_cast<u64>(written);
    }
  }
  total_ += size;
}

Fd Capture::take() {
  if (memfd_)
    if (auto sealed = seal_memfd(memfd_.get()); !sealed)
      report(Level::kError, "the output of an exec cannot be sealed", {}, &sealed.error());
  return static_cast<Fd&&>(memfd_);
}

void Capture::close() {
  source_.unwatch();
  input_.reset();
}

void Capture::save(HandoverWriter& out, string_view key) const {
  out.json().key(key);
  out.json().begin_object();
  out.fd("input", input_);
  out.fd("memfd", memfd_);
  out.json().member("limit", limit_);
  out.json().member("kept", kept_);
  out.json().member("total", total_);
  out.json().end_object();
}

void Capture::restore(const JsonValue& value) {
  input_ = inherited_fd(value["input"]);
  memfd_ = inherited_fd(value["memfd"]);
  limit_ = value["limit"].u64_or(0);
  kept_ = value["kept"].u64_or(0);
  total_ = value["total"].u64_or(0);
  if (!input_) return;
  if (auto watched = watch(); !watched)
    report(Level::kError, "the output of an exec cannot be read", {}, &watched.error());
}

}  // namespace caisson::monitor
