// SHA-256 by the OpenSSL that every Node carries and exports: it uses the processor's own instructions where there are
// some.
#pragma once

#include <stddef.h>

#include <string>

#include "core/base.h"

namespace caisson {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  static constexpr size_t kSize = 32;
  // false: OpenSSL refuses, as one does that is bound to a policy without SHA-256.
  bool update(span<const u8> data);
  bool finish(u8 (&out)[kSize]);

 private:
  void* context_;
  bool good_;
};

// Two lower-case digits a byte.
std::string hex_of(span<const u8> bytes);

}  // namespace caisson
