// Scopes of systemd, over D-Bus: org.freedesktop.systemd1(5). systemd owns the unified hierarchy on its hosts; a cgroup
// that it does not know is fair game for it. A transient scope with Delegate=yes is how it hands one out.
//
// Only the properties listed here ever reach systemd. Annotations "org.systemd.property.*", which runc and crun pass
// on, are refused: a container's author could set any property with them (CRI-O's CVE-2024-3154).
#pragma once

#include "core/base.h"
#include "core/cgroup_limits.h"
#include "core/dbus.h"
#include "core/fd.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct SystemdScope {
  String slice;  // "machine.slice"
  String unit;   // "libpod-0123.scope"
};

// "slice:prefix:name", or "" for caisson-<id>.scope; pure. `rootless` chooses the default slice. EINVAL with the
// phrase of runc, or naming the part: a slice that is none ("a--b.slice", "/"), a name of over 255 bytes or with
// characters that no unit has, a name that is itself a slice (it can hold no process).
Result<SystemdScope> systemd_scope(string_view cgroups_path, string_view id, bool rootless);

// Where a slice is below the manager's root: "a-b.slice" is "/a.slice/a-b.slice", "-.slice" is "/". EINVAL.
Result<String> systemd_slice_path(string_view slice);

// EINVAL naming the annotation where one of "org.systemd.property.*" is set (JSON object of strings, or absent).
Status refuse_systemd_properties(const JsonValue& annotations);

// The unit properties that say the same as the limits: MemoryMax, MemoryHigh, MemoryLow, MemoryMin, MemorySwapMax,
// CPUWeight, CPUQuotaPerSecUSec and CPUQuotaPeriodUSec, AllowedCPUs, AllowedMemoryNodes, TasksMax, IOWeight. Files that
// have none are left out; they are written to the cgroup, and systemd leaves them alone. Appends "(sv)" structures.
void append_unit_properties(DbusWriter& out, span<const CgroupLimit> limits);

// The bus that systemd's manager is on: the system's or, rootless, the user's. Where there is no bus, root speaks to
// systemd's own socket. Errors: ENOENT or ECONNREFUSED naming the socket, EACCES (SASL), EXDEV (another PID namespace),
// those of connect(2).
class SystemdBus {
 public:
  static Result<SystemdBus> connect(bool user, int timeout_ms = 30'000);
  explicit SystemdBus(DbusConnection connection) : bus_(static_cast<DbusConnection&&>(connection)) {}

  // StartTransientUnit around the process `pid`, and waits until the job is done. `limits` become properties. A unit of
  // that name that has failed is reset once. Errors: EEXIST (the unit exists), EINVAL (systemd refuses a property),
  // EACCES (polkit), ETIMEDOUT, EIO "unit x.scope: job failed" with the job's result; the text of systemd is in the
  // object.
  Status start_scope(const SystemdScope& scope, string_view description, u32 pid, span<const CgroupLimit> limits);
  // SetUnitProperties, at run time only. ENOENT: no such unit.
  Status set_properties(string_view unit, span<const CgroupLimit> limits);
  // StopUnit, waits for the job, ResetFailedUnit. A unit that is not loaded is success.
  Status stop_unit(string_view unit);
  // The unit's ControlGroup, "/machine.slice/x.scope"; "" where it has none. ENOENT: no such unit.
  Result<String> control_group(string_view unit);

 private:
  Result<DbusMessage> call(string_view path, string_view interface, string_view member, string_view signature,
                           const DbusWriter& body);
  Status subscribe();
  Status wait_job(string_view job, string_view unit, string_view sender);
  DbusConnection bus_;
  bool subscribed_ = false;
  int timeout_ms_ = 30'000;
};

// A child of the caller that does nothing and dies with it, for the PIDs= of a scope, which a scope cannot be without.
struct PlaceholderProcess {
  int pid = 0;
  Fd pidfd;
};
Result<PlaceholderProcess> start_placeholder();
// Kills and reaps it.
Status end_placeholder(int pidfd);

}  // namespace caisson
