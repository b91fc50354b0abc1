// Clocks: what is shown and recorded is CLOCK_REALTIME, what is waited for is CLOCK_MONOTONIC; both in nanoseconds.
#pragma once

#include "core/base.h"

namespace caisson {

inline constexpr i64 kMillisecond = 1'000'000;
inline constexpr i64 kSecond = 1000 * kMillisecond;

i64 realtime_ns();
i64 monotonic_ns();

// "2026-01-02T03:04:05.000000006Z": RFC 3339 in UTC, always nine digits, so that lines of one log sort as text.
inline constexpr size_t kTimestampSize = 30;
void format_timestamp(i64 realtime, char (&out)[kTimestampSize]);

}  // namespace caisson
