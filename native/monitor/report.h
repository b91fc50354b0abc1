// The monitor's own log: one JSON object a line on descriptor 2, only when something is wrong or the pod's life
// changes.
#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson::monitor {

enum class Level : u8 { kInfo, kWarn, kError };

void set_report_pod(string_view pod);

// Never blocks and never fails: a line that descriptor 2 does not take at once is lost.
void report(Level level, string_view message, string_view container = {}, const Error* error = nullptr);

}  // namespace caisson::monitor
