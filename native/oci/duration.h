// Durations as Go writes them: "5s", "1m30s", "100ms", "1.5h".
#pragma once

#include "core/base.h"

namespace caisson::oci {

// In milliseconds, rounded down, up to 24 days. A number without a unit is none, except 0.
bool parse_duration(string_view text, int& milliseconds);

}  // namespace caisson::oci
