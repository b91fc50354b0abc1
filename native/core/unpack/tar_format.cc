#include "core/unpack/tar_format.h"

namespace caisson::tar {

Dialect dialect_of(const u8* block) {
  if (memcmp(block + kMagic.at, "ustar  ", 8) == 0) return Dialect::kGnu;
  if (memcmp(block + kMagic.at, "ustar", 6) != 0) return Dialect::kV7;
  return memcmp(block + kStarMagic.at, "tar", 4) == 0 ? Dialect::kStar : Dialect::kUstar;
}

bool is_zero_block(const u8* block) {
  u64 seen = 0;
  for (size_t i = 0; i < kBlock; i += sizeof(u64)) {
    u64 word;
    memcpy(&word, block + i, sizeof word);
    seen |= word;
  }
  return seen == 0;
}

bool checksum_holds(const u8* block) {
  i64 stored = 0;
  if (!number_of(block, kChecksum, stored)) return false;
  u32 plain = 0;
  u32 high = 0;  // bytes with the top bit: each is 256 less in a signed sum
  for (size_t i = 0; i < kBlock; ++i) {
    plain += block[i];
    high += block[i] >> 7;
  }
  for (size_t i = kChecksum.at; i < kChecksum.at + kChecksum.width; ++i) {
    plain += u32{' '} - block[i];
    high -= block[i] >> 7;
  }
  return stored == plain || stored == i64{plain} - 256 * i64{high};
}

string_view text_of(const u8* block, Field field) {
  const char* text = reinterpret_cast<const char*>(block + field.at);
  return {text, strnlen(text, field.width)};
}

static bool base256_of(const u8* bytes, size_t width, i64& value) {
  // The marker bit is not part of the number; the next one is its sign.
  bool negative = (bytes[0] & 0x40) != 0;
  u64 number = negative ? ~u64{0} : 0;
  for (size_t i = 0; i < width; ++i) {
    u8 byte = i != 0 ? bytes[i] : static_cast<u8>(negative ? bytes[0] | 0x80 : bytes[0] & 0x7f);
    // What is shifted out may only repeat the sign.
    if ((number >> 55) != (negative ? u64{0x1ff} : 0)) return false;
    number = number << 8 | byte;
  }
  value = static_cast<i64>(number);
  return true;
}

bool number_of(const u8* block, Field field, i64& value) {
  const u8* at = block + field.at;
  const u8* end = at + field.width;
  if ((*at & 0x80) != 0) return base256_of(at, field.width, value);
  while (at != end && *at == ' ') ++at;
  i64 number = 0;  // 12 octal digits are 36 bits: no overflow
  while (at != end && *at >= '0' && *at <= '7') number = number << 3 | (*at++ - '0');
  for (; at != end; ++at) {
    if (*at == '\0') break;
    if (*at != ' ') return false;
  }
  value = number;
  return true;
}

}  // namespace caisson::tar
