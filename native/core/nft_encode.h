// Attributes of nfnetlink in a growing buffer: numbers are big-endian, sizes are patched when a nest is closed.
#pragma once

#include "core/text.h"
#include "core/uapi_net.h"

namespace caisson::nft {

inline constexpr size_t aligned(size_t size) { return (size + 3) & ~size_t{3}; }

inline void put(Vec<u8>& out, const void* data, size_t size) {
  const u8* bytes = static_cast<const u8*>(data);
  for (size_t i = 0; i < size; ++i) out.push(bytes[i]);
  for (size_t i = size; i < aligned(size); ++i) out.push(0);
}

inline void put_attribute(Vec<u8>& out, u16 type, const void* data, size_t size) {
  uapi::NetlinkAttribute attribute = {static_cast<u16>(sizeof attribute + size), type};
  put(out, &attribute, sizeof attribute);
  put(out, data, size);
}

inline void put_number(Vec<u8>& out, u16 type, u32 value) {
  const u32 big = __builtin_bswap32(value);
  put_attribute(out, type, &big, sizeof big);
}

inline void put_text(Vec<u8>& out, u16 type, string_view text) {
  String terminated(text);
  put_attribute(out, type, terminated.c_str(), text.size() + 1);
}

// What `body` appends becomes the content of the attribute.
template <typename Body>
void put_nest(Vec<u8>& out, u16 type, Body body) {
  const size_t at = out.size();
  uapi::NetlinkAttribute attribute = {0, static_cast<u16>(type | uapi::kNestedFlag)};
  put(out, &attribute, sizeof attribute);
  body();
  attribute.length = static_cast<u16>(out.size() - at);
  memcpy(out.data() + at, &attribute, sizeof attribute);
}

}  // namespace caisson::nft
