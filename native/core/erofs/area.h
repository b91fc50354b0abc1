// Area: writes to a file at growing positions, in large pieces; what is passed over stays a hole.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::erofs {

class Area {
 public:
  // `fd` stays the caller's.
  explicit Area(int fd) : fd_(fd) {}

  Status write(u64 at, span<const u8> data);
  Status flush();

 private:
  static constexpr size_t kBuffer = 256 * 1024;
  static constexpr u64 kGapMax = 4096;  // zeros that are rather written than passed over

  Status put(u64 at, string_view data) const;

  int fd_;
  u64 start_ = 0;  // where the buffer belongs
  String buffer_;
};

}  // namespace caisson::erofs
