// What a container of another runtime needs besides: its end in that runtime's records.
#include "monitor/container.h"
#include "monitor/report.h"

namespace caisson::monitor {

// Begun once every process is reaped; true when it is over, well or not. The program that replaces this one begins it
// anew: twice does no harm.
bool Container::forgotten_by_runtime() {
  if (std::exchange(cleaning_, true)) return !cleaner_.alive();
  auto birth = begin_external_delete(*external_, id_);
  if (!birth) {
    report(Level::kWarn, "a runtime cannot be asked to delete a container", id_, &birth.error());
    return true;
  }
  cleaner_.on_exit.bind<&Container::runtime_forgot>(this);
  auto adopted = cleaner_.adopt(loop_, static_cast<Fd&&>(birth->pidfd), birth->pid);
  if (adopted) return false;
  report(Level::kWarn, "the deletion of a container by its runtime cannot be watched", id_, &adopted.error());
  cleaner_.end_now();
  return true;
}

void Container::runtime_forgot(ExitStatus status) {
  if (status.code != 0) report(Level::kWarn, "a runtime has not deleted a container from its records", id_, nullptr);
  clear();
}

bool Container::is_stranger(int pid) const {
  if (task_.awaits_child() || task_.knows(pid) || (cleaner_.alive() && cleaner_.pid() == pid) ||
      (hooks_ && hooks_->knows(pid)))
    return false;
  for (const auto& exec : execs_)
    if (exec->task().awaits_child() || exec->task().knows(pid)) return false;
  return true;
}

}  // namespace caisson::monitor
