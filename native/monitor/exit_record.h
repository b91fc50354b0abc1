// The durable record of a container's end: one JSON line, in one pwrite, at the start of a file that was preallocated
// at create, so that a full disk cannot lose it.
#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson::monitor {

struct Exit {
  i32 code = 0;
  i32 signal = 0;
  bool oom_killed = false;
  i64 started_at = 0;  // CLOCK_REALTIME, nanoseconds; 0: never started
  i64 finished_at = 0;
};

// Errors: those of pwrite(2); ENOSPC for a short write, which a preallocated file does not have.
Status write_exit_record(int file, const Exit& exit);

}  // namespace caisson::monitor
