// signal(7): names and numbers, as images (STOPSIGNAL), `kill` and the CRI write them.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

inline constexpr int kSignalMax = 64;
inline constexpr int kSignalRtMin =
    34;  // what C libraries call SIGRTMIN: they keep the kernel's first two to themselves

// "SIGTERM", "TERM", "sigterm", "15", "SIGRTMIN", "RTMIN+3", "SIGRTMAX-1" -> 1..64. Error EINVAL naming the text.
Result<int> parse_signal(string_view text);

// 15 -> "SIGTERM", 37 -> "SIGRTMIN+3"; a number without a name is written as it is.
String signal_name(int number);

// The signals that this process ignores, bit n-1: signal n. execve(2) leaves them ignored, and CLONE_CLEAR_SIGHAND too.
Result<u64> ignored_signals();

}  // namespace caisson
