// getrlimit(2): resource limits by name, and the process.rlimits of an OCI spec.
#pragma once

#include "core/base.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct Rlimit {
  u32 resource = 0;  // RLIMIT_*
  u64 soft = 0;      // UINT64_MAX: unlimited (RLIM_INFINITY)
  u64 hard = 0;
};

inline constexpr u32 kRlimitCount = 16;  // RLIM_NLIMITS

// "RLIMIT_NOFILE" -> 7; -1 for an unknown name. The kernel's numbers for x86 and arm.
int rlimit_number(string_view name);
string_view rlimit_name(u32 resource);

// An array of {type, soft, hard}; absent is none. Errors EINVAL: an unknown or duplicate type, soft above hard.
Result<Vec<Rlimit>> parse_rlimits(const JsonValue& rlimits, string_view what);

// Of a process; pid 0 is the caller. Errors: ESRCH, EPERM (another user's process), prlimit(2).
Result<Rlimit> read_rlimit(int pid, u32 resource);

}  // namespace caisson
