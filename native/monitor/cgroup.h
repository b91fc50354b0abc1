// One cgroup of ours: a directory, and its name in its parent, which is what removes it.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"
#include "monitor/handover.h"

namespace caisson::monitor {

class Cgroup {
 public:
  // Makes and opens `name` below `parent`, which must stay open as long as this. Error EEXIST: it is there already.
  Status create(int parent, string_view name);
  // Opens the one that systemd has made. Error ENOENT.
  Status adopt(int parent, string_view name);
  // Writes the plan's limits and attaches its device program, before a process is born here. Errors name the interface
  // file, or are those of bpf(2).
  Status apply(const PlanView& plan);
  // Limits that must wait for the birth (LimitPhase::kAfterBirth) are due.
  bool unfinished() const { return unfinished_; }
  // Writes those.
  Status finish(const PlanView& plan);
  // cgroup.kill: SIGKILL to all below, also the frozen (Linux 5.14).
  Status kill() const;
  // Removes it with the empty cgroups below it, which a container may have made; an adopted one is left to systemd.
  // Error EBUSY: somebody lives there.
  Status remove();
  // Gives up ownership without removing.
  void forget();

  explicit operator bool() const { return static_cast<bool>(directory_); }
  int fd() const { return directory_.get(); }
  string_view name() const { return name_; }

  void save(HandoverWriter& out, string_view key) const;
  void restore(const JsonValue& value, int parent);

 private:
  int parent_ = -1;
  Fd directory_;
  String name_;
  bool unfinished_ = false;
  bool adopted_ = false;
};

}  // namespace caisson::monitor
