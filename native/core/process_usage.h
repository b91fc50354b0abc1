// What processes have open, from /proc: proc(5). What they do meanwhile is seen or not.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

inline constexpr u64 kDescriptorsMax = 65'536;  // of all processes together: beyond it nothing is counted

struct ProcessUsage {
  u64 threads = 0;
  u64 descriptors = 0;
  u64 sockets = 0;
};

// Processes that have ended meanwhile are left out.
Result<ProcessUsage> process_usage(const Vec<int>& pids);

}  // namespace caisson
