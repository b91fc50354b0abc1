// One buffer for everything that is read: the program has one thread, and whoever reads into it has emptied it before
// returning to the loop. Its pages count for memory once, and only as far as they have been used.
#pragma once

#include "core/base.h"

namespace caisson::monitor {

// 64 KiB is a pipe's default capacity (pipe(7)): one read empties a full pipe, and one time stamp is taken for it.
inline constexpr size_t kScratchSize = 64 * 1024;
alignas(16) inline char scratch[kScratchSize];

}  // namespace caisson::monitor
