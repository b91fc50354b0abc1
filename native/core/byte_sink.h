#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson {

// Where a stream of bytes goes, piece by piece.
class ByteSink {
 public:
  virtual Status write(span<const u8> data) = 0;

 protected:
  ~ByteSink() = default;
};

}  // namespace caisson
