// linux.intelRdt: cache and memory bandwidth of a class of service (CLOS), and monitoring groups, by the resctrl file
// system (Documentation/arch/x86/resctrl.rst; runtime-spec config-linux.md "IntelRdt").
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// The root of the resctrl mount, by mountinfo. ENOENT, with the advice to mount it.
Result<Fd> open_resctrl();

// What is kept in the container's state: what we made is what we remove.
struct RdtRecord {
  bool present = false;
  String group;       // directory below the root; "/" is the root itself
  bool made = false;  // the class is ours
  String monitor;     // name below mon_groups of the class; "" for none
  bool monitor_made = false;
};

// Makes or joins the class that the plan's RdtEntry names (its id where it names none), writes the plan's schemata in
// one write, makes the monitoring group. Undoes itself. `present` is false where the plan asks for nothing. Errors:
// EINVAL (an existing class has other schemata), ENOENT (a class is named, no schema given, and it is not there),
// ENOSPC (no class is left). The kernel's own reason (info/last_cmd_status) is in the object.
Result<RdtRecord> rdt_create(int root, const PlanView& plan, string_view id);
// Puts a process into the class and its monitoring group: the container's first, while it is one thread.
Status rdt_assign(int root, const RdtRecord& record, int pid);
// New schemata for the class of `record` (update --l3-cache-schema, --mem-bw-schema): one line each.
Status rdt_update(int root, const RdtRecord& record, span<const string_view> schemata);
// Removes what rdt_create made; a class in which others have processes meanwhile stays. Absent is success.
Status rdt_remove(int root, const RdtRecord& record);

// Are the lines of `wanted` what `present` (a schemata file) says? Numbers are compared as numbers (masks are
// hexadecimal, bandwidths decimal), domains that are not named do not count.
bool rdt_schemata_match(span<const string_view> wanted, string_view present);

void write_rdt(JsonWriter& out, const RdtRecord& record);
Result<RdtRecord> read_rdt(const JsonValue& value);

// "intel_rdt" of runc's events: schemas of root and class, cache and bandwidth information, monitoring counters.
Result<String> rdt_stats_json(int root, const RdtRecord& record);

}  // namespace caisson
