#include "monitor/birth.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "monitor/driver.h"

namespace caisson::monitor {

Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error::last("pipe2");
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

Failure describe_birth(int plan, const GateReport& report) {
  if (report.step == kDrivenStep) {
    Failure failure = Failure::of(report.err, {}, string_view(report.found));
    const bool restored = report.index == static_cast<u32>(DrivenBy::kCriu);
    failure.stage = restored ? "restore" : report.err == ENOENT || report.err == EACCES ? "exec" : "runtime";
    return failure;
  }
  if (plan >= 0)
    if (auto map = PlanMap::map(plan)) return Failure::of(describe_failure(map->view(), report));
  Failure failure;
  failure.err = report.err;
  failure.stage = report.step < static_cast<u32>(Step::kCount) ? step_name(static_cast<Step>(report.step)) : "";
  failure.message.append("birth failed at ").append(failure.stage).append(": ").append(strerror(report.err));
  return failure;
}

int exit_code_of(int err) {
  if (err == ENOENT || err == ENOTDIR) return 127;
  if (err == EACCES || err == ENOEXEC || err == EISDIR || err == EPERM || err == ELIBBAD) return 126;
  return 128;
}

}  // namespace caisson::monitor
