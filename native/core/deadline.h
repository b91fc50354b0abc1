// A point of CLOCK_MONOTONIC to wait for.
#pragma once

#include <time.h>

#include "core/base.h"

namespace caisson {

class Deadline {
 public:
  // From now; a negative time-out is never reached.
  explicit Deadline(int timeout_ms) : at_ms_(timeout_ms < 0 ? -1 : now_ms() + timeout_ms) {}

  // Milliseconds left, as poll(2) takes them: 0 when it is reached, -1 for ever.
  int left_ms() const {
    if (at_ms_ < 0) return -1;
    i64 left = at_ms_ - now_ms();
    return left < 0 ? 0 : static_cast<int>(left);
  }

 private:
  static i64 now_ms() {
    struct timespec now {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<i64>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
  }
  i64 at_ms_;
};

}  // namespace caisson
