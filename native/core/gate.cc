// The gate as the parent of a birth sees it.
#include "core/launch.h"
#include "core/passing.h"
#include "core/sys.h"

namespace caisson {

Result<GateReport> read_gate(int gate, Fd& passed) {
  GateReport report;
  int fd = -1;
  const ssize_t n = receive_passing(gate, &report, sizeof report, fd);
  if (n < 0) {
    if (errno == ECONNRESET) return GateReport{};  // the stage ended with our release unread: the end all the same
    return Error::last("recvmsg", "gate");
  }
  if (fd >= 0) passed.reset(fd);
  if (n == 0) return GateReport{};
  if (n != static_cast<ssize_t>(sizeof report) || report.kind < GateReport::kChild ||
      report.kind > GateReport::kExecuted || report.group_count > GateReport::kGroupsMax ||
      report.step >= static_cast<u32>(Step::kCount))
    return Error(EPROTO, "recvmsg", "gate");
  return report;
}

Status release_gate(int gate, int state) {
  if (send_passing(gate, "", 1, state) != 1) return Error::last("sendmsg", "gate");
  return ok();
}

}  // namespace caisson
