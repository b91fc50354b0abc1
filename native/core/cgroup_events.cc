#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/deadline.h"
#include "core/words.h"

namespace caisson {
namespace {

CgroupEvents parse_events(string_view text) {
  CgroupEvents events;
  each_count(text, [&](string_view key, u64 number) {
    if (key == "populated") events.populated = number != 0;
    if (key == "frozen") events.frozen = number != 0;
  });
  return events;
}

// Waits on cgroup.events until `reached` holds of it. The kernel wakes pollers with POLLPRI when the file has changed
// since the last read through the same descriptor, so no change between read and poll is lost.
template <typename Reached>
Status wait_events(int cgroup, int timeout_ms, const char* operation, Reached reached) {
  Deadline deadline(timeout_ms);
  Fd watch = CAISSON_TRY(cgroup_watch(cgroup));
  for (;;) {
    char text[256];
    ssize_t n = pread(watch.get(), text, sizeof text, 0);
    if (n < 0 && errno == EINTR) continue;
    // The cgroup was removed under us: nothing can be in it.
    if (n < 0 && errno == ENODEV)
      return reached(CgroupEvents{}) ? ok() : Status(Error::last(operation, "cgroup.events"));
    if (n < 0) return Error::last("pread", "cgroup.events");
    if (reached(parse_events(string_view(text, static_cast<size_t>(n))))) return ok();
    struct pollfd poll_one = {watch.get(), POLLPRI, 0};
    int left = deadline.left_ms();
    if (left == 0) return Error(ETIMEDOUT, operation, "cgroup.events");
    if (poll(&poll_one, 1, left) < 0 && errno != EINTR) return Error::last("poll", "cgroup.events");
  }
}

}  // namespace

Result<CgroupEvents> cgroup_events(int cgroup) {
  char text[256];
  return parse_events(CAISSON_TRY(cgroup_read(cgroup, "cgroup.events", text)));
}

Result<Fd> cgroup_watch(int cgroup, const char* file) {
  Fd fd(openat(cgroup, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Error::last("openat", file);
  return fd;
}

Status cgroup_wait_empty(int cgroup, int timeout_ms) {
  return wait_events(cgroup, timeout_ms, "wait", [](CgroupEvents events) { return !events.populated; });
}

Status cgroup_freeze(int cgroup, bool frozen, int timeout_ms) {
  CAISSON_TRY(cgroup_write(cgroup, "cgroup.freeze", frozen ? "1" : "0"));
  return wait_events(cgroup, timeout_ms, "freeze", [=](CgroupEvents events) { return events.frozen == frozen; });
}

MemoryEvents parse_memory_events(string_view text) {
  MemoryEvents events;
  each_count(text, [&](string_view key, u64 number) {
    if (key == "low") events.low = number;
    if (key == "high") events.high = number;
    if (key == "max") events.max = number;
    if (key == "oom") events.oom = number;
    if (key == "oom_kill") events.oom_kill = number;
    if (key == "oom_group_kill") events.oom_group_kill = number;
  });
  return events;
}

Result<MemoryEvents> cgroup_memory_events(int cgroup) {
  char text[1024];
  return parse_memory_events(CAISSON_TRY(cgroup_read(cgroup, "memory.events", text)));
}

}  // namespace caisson
