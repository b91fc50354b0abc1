// Values of cgroup v1, which the runtime specification is written in, as values of cgroup v2.
#pragma once

#include "core/base.h"

namespace caisson::compile {

// cpu.shares (2..262144) as cpu.weight (1..10000): the curve through 1024 -> 100 that crun, runc and youki share since
// 2025 (the older linear one turned 1024 into 39). `shares` is not 0, which means unset.
u64 cpu_weight(u64 shares);

// blkio.weight (10..1000) as io.weight (1..10000).
u64 io_weight(u64 weight);

}  // namespace caisson::compile
