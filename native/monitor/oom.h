// Watches memory.events of a container's cgroup: kernfs wakes a poller of EPOLLPRI at every change
// (Documentation/admin-guide/cgroup-v2.rst, "memory.events"; hierarchical, so exec leaves count).
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "monitor/handover.h"
#include "monitor/loop.h"

namespace caisson::monitor {

class OomWatch {
 public:
  explicit OomWatch(Loop& loop) : loop_(loop) {}

  // The number of OOM kills has grown; its argument is the new total.
  Callback<u64> on_oom;

  // Without a memory controller in the cgroup there is no file and nothing to watch: that is no error.
  Status start(int cgroup);
  // Reads the counter a last time, and tells what it shows; then watches no more. Before the cgroup is removed.
  void finish();
  u64 kills() const { return kills_; }

  void save(HandoverWriter& out, string_view key) const;
  void restore(const JsonValue& value);

 private:
  void on_changed(u32 events);
  Status watch();

  Loop& loop_;
  Fd file_;
  Source source_;
  u64 kills_ = 0;
};

}  // namespace caisson::monitor
