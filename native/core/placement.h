// Placement: from linux.cgroupsPath to the cgroup that a container is born in, and back to nothing (runtime-spec
// config-linux.md "Cgroups Path"). Two drivers behind one face: plain directories (cgroupfs), and transient scopes of
// systemd (systemd(1) "org.freedesktop.systemd1", the way of `--systemd-cgroup`).
//
// The order of a create:
//   offered_controllers()   before the compiler, which refuses limits whose controller is missing
//   place()                 the cgroup is there, limited, and takes a process by CLONE_INTO_CGROUP
//   begin_birth()           with Placement::cgroup
//   finish_placement()      at GateReport::kReady
//   Placement::record       into the container's state; open_placement() and remove_placement() go by it later
// or undo_placement() where anything after place() fails.
#pragma once

#include "core/base.h"
#include "core/cgroup_limits.h"
#include "core/fd.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

enum class CgroupDriver : u8 {
  kNone,      // rootless without a delegated cgroup: the container stays in its caller's
  kCgroupfs,  // a directory of ours
  kSystemd,   // a scope of systemd's
};

// What is kept of a placement: enough to find it again from another process.
struct PlacementRecord {
  CgroupDriver driver = CgroupDriver::kNone;
  String path;            // absolute, below the root of the cgroup2 mount: "/a/b"; "" with kNone
  String unit;            // kSystemd: "runc-x.scope"
  bool user_bus = false;  // kSystemd: the unit belongs to the user's manager
};

struct PlacementRequest {
  string_view id;            // of the container; a valid one
  string_view cgroups_path;  // linux.cgroupsPath; "" where absent
  bool systemd = false;      // --systemd-cgroup
  bool rootless = false;     // systemd: the user's manager; cgroupfs: no permission may end in kNone
};

struct Placement {
  PlacementRecord record;
  Fd cgroup;            // its directory, for CLONE_INTO_CGROUP; empty with kNone
  Fd placeholder;       // kSystemd: pidfd of the process that keeps the scope alive until the container is in it
  String made;          // kCgroupfs: the topmost cgroup that place() made; what undo_placement removes
  bool warned = false;  // rootless: the device rules are not enforced (bpf(2) needs privilege)
};

// The controllers that a container placed so can have: words, for "controllers" of the compiler's input. Pure reading.
// ENODEV: no cgroup v2 on this host. Empty where a rootless caller owns no cgroup.
Result<Vec<String>> offered_controllers(const PlacementRequest& request);

// Makes the cgroup (directories on the way included), enables the controllers that are there for it, writes the plan's
// limits of LimitPhase::kBeforeBirth, attaches its device program. All or nothing.
//
// cgroupfs: an absolute path is below the root of the cgroup2 mount, a relative one below the parent of the caller's
// own cgroup, where no process is; an absent one is the id there (runc's rules). "." and ".." are resolved as text and
// do not climb above the root. systemd: "slice:prefix:name" is the scope prefix-name.scope in that slice; an empty
// slice is system.slice, or user.slice for a rootless caller; absent is caisson-<id>.scope.
//
// Errors:
//   EBUSY    "container's cgroup is not empty: N process(es) found" (of another container), or a process sits in a
//            cgroup on the way
//   EAGAIN   "container's cgroup unexpectedly frozen"
//   EINVAL   the path, "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got …"
//   ENOTSUP  a controller that a limit needs is not there, object "<controller> (not in cgroup.controllers of …)"
//   EACCES   rootless, and a limit was asked for; object names the first
//   ENODEV   no cgroup v2
//   those of apply_limits(), of attach_device_program(), and of systemd_start_scope()
Result<Placement> place(const PlacementRequest& request, const PlanView& plan);

// The error of a birth in the placement, with what is wrong with its cgroup where that is the reason.
Error explain_birth(const Placement& placement, const Error& error);

// The container's process is there: writes the limits of LimitPhase::kAfterBirth, ends systemd's placeholder.
Status finish_placement(Placement& placement, const PlanView& plan);

// Takes everything back that place() did. The first error is reported, the rest is tried.
Status undo_placement(Placement& placement);

// The cgroup of a container of another process. ENOENT: it is gone, which with systemd is so from the end of its last
// process on. A record of kNone gives an empty Fd.
Result<Fd> open_placement(const PlacementRecord& record);

// Kills what is left in it, waits, removes it and all cgroups below it, and with systemd the unit. Absent is success.
// ETIMEDOUT: a process does not die (uninterruptible sleep).
Status remove_placement(const PlacementRecord& record, int timeout_ms);

// Gives the cgroup to the host's uid of process.user.uid, as the specification wants it ("Cgroup ownership"): if and
// only if the container has a cgroup namespace of its own and a cgroup mount that is not read-only. True if it did.
// Where the container joins a user namespace, its map is not in the plan: `user_namespace` is its descriptor, or -1.
Result<bool> delegate_placement(int cgroup, const PlanView& plan, int user_namespace);

// Carries out an update (cgroup_update.h has the limits): with systemd the unit's properties first, so that its next
// reload does not take them back; then the files.
Status update_placement(const PlacementRecord& record, int cgroup, span<const CgroupLimit> limits);

// The record as a member of a JSON document of ours: {"driver":"systemd","path":…,"unit":…,"userBus":…}.
void write_placement(JsonWriter& out, const PlacementRecord& record);
// EINVAL: not what write_placement wrote.
Result<PlacementRecord> read_placement(const JsonValue& value);

// linux.cgroupsPath as a path below the cgroup2 mount: pure. `own` is the caller's own cgroup as /proc/self/cgroup has
// it ("/user.slice/x.scope").
Result<String> cgroupfs_path(string_view cgroups_path, string_view id, string_view own);

}  // namespace caisson
