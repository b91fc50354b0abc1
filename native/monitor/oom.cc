#include "monitor/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "monitor/report.h"

namespace caisson::monitor {

Status OomWatch::start(int cgroup) {
  file_.reset(openat(cgroup, "memory.events", O_RDONLY | O_CLOEXEC));
  if (!file_) {
    if (errno == ENOENT) return ok();
    return Error::last("openat", "memory.events");
  }
  return watch();
}

Status OomWatch::watch() {
  source_.on_events.bind<&OomWatch::on_changed>(this);
  return source_.watch(loop_, file_.get(), EPOLLPRI);
}

void OomWatch::on_changed(u32) {
  char text[512];
  ssize_t n = pread(file_.get(), text, sizeof text, 0);  // the read also re-arms the notification
  if (n < 0) {
    // ENODEV: the cgroup has been removed under us. The event would repeat for ever.
    if (errno != ENODEV) {
      Error error = Error::last("pread", "memory.events");
      report(Level::kWarn, "OOM kills are watched no more", {}, &error);
    }
    source_.unwatch();
    file_.reset();
    return;
  }
  // Either alone says that memory ran out: processes killed, or kills of a whole cgroup (memory.oom.group).
  MemoryEvents counters = parse_memory_events(string_view(text, static_cast<size_t>(n)));
  u64 now = counters.oom_kill > counters.oom_group_kill ? counters.oom_kill : counters.oom_group_kill;
  if (now <= kills_) return;
  kills_ = now;
  on_oom(now);
}

void OomWatch::finish() {
  if (!file_) return;
  on_changed(0);
  source_.unwatch();
  file_.reset();
}

void OomWatch::save(HandoverWriter& out, string_view key) const {
  out.json().key(key);
  out.json().begin_object();
  out.fd("file", file_);
  out.json().member("kills", kills_);
  out.json().end_object();
}

void OomWatch::restore(const JsonValue& value) {
  kills_ = value["kills"].u64_or(0);
  file_ = inherited_fd(value["file"]);
  if (!file_) return;
  if (auto watched = watch(); !watched) report(Level::kWarn, "OOM kills are watched no more", {}, &watched.error());
}

}  // namespace caisson::monitor
