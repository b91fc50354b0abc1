// linux.intelRdt: cache and memory bandwidth of a class of service (CLOS), and monitoring groups, by the resctrl file
// system (Documentation/arch/x86/resctrl.rst; runtime-spec config-linux.md "IntelRdt").
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// What linux.intelRdt asks for, checked: compile_rdt() makes it.
struct RdtRequest {
  String closid;            // directory of the class; "" is the container's id, "/" the default class
  Vec<String> schemata;     // lines in the order they are written
  bool monitoring = false;  // a monitoring group named by the container's id
  bool strict = false;      // closid is given without any schema: the class must be there
};

// linux.intelRdt (or nothing: the Result's value is then absent, `present` false). EINVAL naming the property: a schema
// with a newline where none may be, memBwSchema that is not "MB:", a closID that is a path, "." or "..".
struct CompiledRdt {
  bool present = false;
  RdtRequest request;
};
Result<CompiledRdt> compile_rdt(const JsonValue& intel_rdt);

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

// Makes or joins the class, writes its schemata, makes the monitoring group. An existing class whose schemata differ
// from what is asked: EINVAL. strict and absent: ENOENT. The kernel's reason (info/last_cmd_status) is in the object of
// an error. Undoes itself. ENOSPC: no class is left.
Result<RdtRecord> rdt_create(int root, const RdtRequest& request, string_view id);
// Puts a process (each thread of it) into the class and its monitoring group.
Status rdt_assign(int root, const RdtRecord& record, int pid);
// New schemata for the class of `record` (update --l3-cache-schema, --mem-bw-schema).
Status rdt_update(int root, const RdtRecord& record, span<const String> schemata);
// Removes what rdt_create made. Absent is success.
Status rdt_remove(int root, const RdtRecord& record);

// Are the lines of `wanted` what `present` (a schemata file) says? Numbers are compared as numbers (masks are
// hexadecimal, bandwidths decimal), domains that are not named do not count.
bool rdt_schemata_match(span<const String> wanted, string_view present);

void write_rdt(JsonWriter& out, const RdtRecord& record);
Result<RdtRecord> read_rdt(const JsonValue& value);

// "intel_rdt" of runc's events: schemas of root and class, cache and bandwidth information, monitoring counters.
Result<String> rdt_stats_json(int root, const RdtRecord& record);

}  // namespace caisson
