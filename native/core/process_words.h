// The words of process.scheduler, process.ioPriority, linux.memoryPolicy and linux.personality that the compiler takes,
// with their values; `features` lists those of memoryPolicy. Each table is sorted.
#pragma once

#include "core/base.h"

namespace caisson::words {

struct Word {
  string_view name;
  u32 value;
};

// set_mempolicy(2)
inline constexpr u32 kMpolDefault = 0;
inline constexpr u32 kMpolPreferred = 1;
inline constexpr u32 kMpolBind = 2;
inline constexpr u32 kMpolInterleave = 3;
inline constexpr u32 kMpolLocal = 4;
inline constexpr u32 kMpolPreferredMany = 5;
inline constexpr u32 kMpolWeightedInterleave = 6;
inline constexpr u32 kMpolNumaBalancing = 1u << 13;
inline constexpr u32 kMpolRelativeNodes = 1u << 14;
inline constexpr u32 kMpolStaticNodes = 1u << 15;

// Whether the kernel knows a mode shows when it is set (MPOL_WEIGHTED_INTERLEAVE: 6.9).
inline constexpr Word kMemoryModes[] = {
    {"MPOL_BIND", kMpolBind},
    {"MPOL_DEFAULT", kMpolDefault},
    {"MPOL_INTERLEAVE", kMpolInterleave},
    {"MPOL_LOCAL", kMpolLocal},
    {"MPOL_PREFERRED", kMpolPreferred},
    {"MPOL_PREFERRED_MANY", kMpolPreferredMany},
    {"MPOL_WEIGHTED_INTERLEAVE", kMpolWeightedInterleave},
};

inline constexpr Word kMemoryFlags[] = {
    {"MPOL_F_NUMA_BALANCING", kMpolNumaBalancing},
    {"MPOL_F_RELATIVE_NODES", kMpolRelativeNodes},
    {"MPOL_F_STATIC_NODES", kMpolStaticNodes},
};

// sched_setattr(2)
inline constexpr u32 kSchedOther = 0;
inline constexpr u32 kSchedFifo = 1;
inline constexpr u32 kSchedRr = 2;
inline constexpr u32 kSchedBatch = 3;
inline constexpr u32 kSchedIso = 4;  // reserved, never implemented
inline constexpr u32 kSchedIdle = 5;
inline constexpr u32 kSchedDeadline = 6;

inline constexpr Word kSchedulers[] = {
    {"SCHED_BATCH", kSchedBatch}, {"SCHED_DEADLINE", kSchedDeadline}, {"SCHED_FIFO", kSchedFifo},
    {"SCHED_IDLE", kSchedIdle},   {"SCHED_ISO", kSchedIso},           {"SCHED_OTHER", kSchedOther},
    {"SCHED_RR", kSchedRr},
};

inline constexpr u32 kSchedResetOnFork = 0x01;
inline constexpr u32 kSchedUtilClamp = 0x60;

inline constexpr Word kSchedulerFlags[] = {
    {"SCHED_FLAG_DL_OVERRUN", 0x04},
    {"SCHED_FLAG_KEEP_PARAMS", 0x10},
    {"SCHED_FLAG_KEEP_POLICY", 0x08},
    {"SCHED_FLAG_RECLAIM", 0x02},
    {"SCHED_FLAG_RESET_ON_FORK", kSchedResetOnFork},
    {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40},
    {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
};

// ioprio_set(2)
inline constexpr u32 kIoClassShift = 13;

inline constexpr Word kIoClasses[] = {
    {"IOPRIO_CLASS_BE", 2},
    {"IOPRIO_CLASS_IDLE", 3},
    {"IOPRIO_CLASS_RT", 1},
};

// personality(2)
inline constexpr Word kPersonalities[] = {
    {"LINUX", 0},
    {"LINUX32", 8},
};

}  // namespace caisson::words
