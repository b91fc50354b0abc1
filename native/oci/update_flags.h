// The flags of `update` as a linux.resources document.
#pragma once

#include "oci/options.h"

namespace caisson::oci {

inline constexpr Flag kUpdateFlags[] = {
    {"resources", 'r', FlagKind::kText,
     "a file with linux.resources as JSON, - for stdin; the flags below do not apply"},
    {"blkio-weight", 0, FlagKind::kNumber, "I/O weight, 10 to 1000"},
    {"cpu-period", 0, FlagKind::kText, "period of the CPU quota, microseconds"},
    {"cpu-quota", 0, FlagKind::kText, "CPU time in a period, microseconds; -1: no limit"},
    {"cpu-burst", 0, FlagKind::kText, "CPU time that may be saved up for a later period, microseconds"},
    {"cpu-share", 0, FlagKind::kText, "CPU shares, 2 to 262144"},
    {"cpu-rt-period", 0, FlagKind::kText, "not available on cgroup v2"},
    {"cpu-rt-runtime", 0, FlagKind::kText, "not available on cgroup v2"},
    {"cpu-idle", 0, FlagKind::kText, "1: run when nothing else wants to (SCHED_IDLE); 0: not"},
    {"cpuset-cpus", 0, FlagKind::kText, "CPUs, as 0-2,7"},
    {"cpuset-mems", 0, FlagKind::kText, "memory nodes"},
    {"kernel-memory", 0, FlagKind::kText, "ignored"},
    {"kernel-memory-tcp", 0, FlagKind::kText, "ignored"},
    {"memory", 0, FlagKind::kText, "memory limit, bytes or with a suffix as 512m; -1: none"},
    {"memory-reservation", 0, FlagKind::kText, "memory that is left alone under pressure"},
    {"memory-swap", 0, FlagKind::kText, "limit of memory and swap together; -1: none"},
    {"pids-limit", 0, FlagKind::kNumber, "number of processes; -1: no limit"},
    {"l3-cache-schema", 0, FlagKind::kText, "Intel RDT/CAT schema"},
    {"mem-bw-schema", 0, FlagKind::kText, "Intel RDT/MBA schema"},
};

// "{}" where no flag asks for anything. Faults name the flag.
Outcome<String> resources_of(const Options& options);

// "512m", "1.5G", "1024": bytes, powers of 1024, as docker writes them.
bool parse_bytes(string_view text, i64& out);

}  // namespace caisson::oci
