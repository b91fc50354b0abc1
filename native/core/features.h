// Run-time detection of what is newer than the baseline, Linux 6.1: by the call itself with arguments that do nothing,
// never by version, since distributions carry calls back and seccomp takes them away.
#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson {

struct HostFeature {
  const char* name;
  bool present;
};

struct HostFeatures {
  static constexpr size_t kCount = 9;
  char kernel[65] = {};  // uname(2) release
  HostFeature features[kCount] = {};
};

// features: "kernel-6.1" (the release says 6.1 or later: what the runtime needs at least), "overlay-lowerdir-append"
// (6.7), "statmount" (6.8), "memfd-exec" (6.3), "pidfd-info" (6.13), "pidfd-thread" (6.9),
// "detached-mount-clone" (6.15, needs CAP_SYS_ADMIN to be seen), "open-tree-attr" (6.15), "listmount" (6.8).
Result<HostFeatures> detect_features();

}  // namespace caisson
