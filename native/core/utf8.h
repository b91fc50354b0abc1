// UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include "core/base.h"

namespace caisson {

// The length in bytes of the well-formed sequence at the front of `text`; 0 when there is none (or no text).
inline u32 utf8_sequence(string_view text) {
  auto byte = [&](size_t i) { return static_cast<u8>(text[i]); };
  auto continues = [&](size_t i, u8 low, u8 high) { return i < text.size() && byte(i) >= low && byte(i) <= high; };
  if (text.empty()) return 0;
  const u8 lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  if (lead < 0xE0) return continues(1, 0x80, 0xBF) ? 2 : 0;
  if (lead < 0xF0) {
    // RFC 3629 section 4: E0 excludes overlong forms, ED excludes surrogates.
    if (!continues(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF)) return 0;
    return continues(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (!continues(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF)) return 0;
  return continues(2, 0x80, 0xBF) && continues(3, 0x80, 0xBF) ? 4 : 0;
}

// Writes the 1 to 4 bytes of a scalar value (not a surrogate) and returns their number.
inline u32 utf8_encode(u32 point, char* out) {
  auto put = [&](u32 i, u32 bits) { out[i] = static_cast<char>(bits); };
  if (point < 0x80) return put(0, point), 1;
  if (point < 0x800) return put(0, 0xC0 | point >> 6), put(1, 0x80 | (point & 0x3F)), 2;
  if (point < 0x10000) {
    put(0, 0xE0 | point >> 12), put(1, 0x80 | (point >> 6 & 0x3F)), put(2, 0x80 | (point & 0x3F));
    return 3;
  }
  put(0, 0xF0 | point >> 18), put(1, 0x80 | (point >> 12 & 0x3F));
  put(2, 0x80 | (point >> 6 & 0x3F)), put(3, 0x80 | (point & 0x3F));
  return 4;
}

}  // namespace caisson
