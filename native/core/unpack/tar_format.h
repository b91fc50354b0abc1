// The fixed-width part of a tar header: field positions and number encodings.
//
// Source: POSIX.1-2017 pax(1) "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" and "Extensions".
#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson::tar {

inline constexpr size_t kBlock = 512;

// A field of a header block: offset and width in bytes.
struct Field {
  size_t at;
  size_t width;
};

inline constexpr Field kName{0, 100};
inline constexpr Field kMode{100, 8};
inline constexpr Field kUid{108, 8};
inline constexpr Field kGid{116, 8};
inline constexpr Field kSize{124, 12};
inline constexpr Field kMtime{136, 12};
inline constexpr Field kChecksum{148, 8};
inline constexpr size_t kTypeAt = 156;
inline constexpr Field kLinkName{157, 100};
inline constexpr Field kMagic{257, 8};
inline constexpr Field kDevMajor{329, 8};
inline constexpr Field kDevMinor{337, 8};
inline constexpr Field kPrefix{345, 155};      // ustar
inline constexpr Field kStarPrefix{345, 131};  // star: "tar\0" at 508, times behind a shorter prefix
inline constexpr Field kStarMagic{508, 4};

// Old GNU sparse: four extents in the header, 21 in each extension block; an extent is two 12-byte numbers.
inline constexpr size_t kSparseAt = 386;
inline constexpr size_t kSparseInHeader = 4;
inline constexpr size_t kSparseMoreAt = 482;
inline constexpr Field kSparseRealSize{483, 12};
inline constexpr size_t kSparseInBlock = 21;
inline constexpr size_t kSparseBlockMoreAt = 504;
inline constexpr size_t kSparseExtent = 24;

enum class Dialect : u8 { kV7, kUstar, kStar, kGnu };
Dialect dialect_of(const u8* block);

// Whether the 512 bytes are zero: the mark of the archive's end.
bool is_zero_block(const u8* block);

// The sum of the header's bytes, the checksum field counted as spaces, equals the stored one. Writers of the eighties
// summed signed characters; both are accepted, as every reader does.
bool checksum_holds(const u8* block);

// The text of a field up to its first NUL.
string_view text_of(const u8* block, Field field);

// A number: octal digits between spaces, closed by NUL or space or the field's end, or, with the first bit set, a
// big-endian two's complement number (base-256, GNU and star). False: not a number, or outside of i64.
bool number_of(const u8* block, Field field, i64& value);

}  // namespace caisson::tar
