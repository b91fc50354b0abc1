// EROFS on disk, as far as an index of a layer uses it: one super block, extended inodes, attributes beside them,
// directories, and files whose data is named in chunks, of this file or of another one (a device).
//
// Source: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux 6.1 to 6.18. Chunks need 5.15, devices
// 5.16, blocks smaller than a page 6.4.
#pragma once

#include <string.h>

#include "core/base.h"

namespace caisson::erofs {

inline constexpr u32 kMagic = 0xE0F5E1E2;
inline constexpr size_t kSuperAt = 1024;
inline constexpr size_t kSuperSize = 128;
inline constexpr size_t kDeviceAt = kSuperAt + kSuperSize;  // the one slot of the device table
inline constexpr size_t kDeviceSize = 128;
inline constexpr u32 kCompatMtime = 2;
inline constexpr u32 kIncompatChunks = 4;
inline constexpr u32 kIncompatDevices = 8;

inline constexpr size_t kInodeSize = 64;  // the extended one: ids of 32 bits, nanoseconds
inline constexpr size_t kNidSize = 32;    // an inode's number counts these
enum class Layout : u16 { kPlain = 0, kInline = 2, kChunks = 4 };

inline constexpr size_t kXattrHeader = 12;
inline constexpr size_t kXattrEntry = 4;  // in front of name and value
inline constexpr size_t kXattrMax = kXattrEntry * 65'534;
inline constexpr size_t kDirentSize = 12;
inline constexpr size_t kChunkSize = 8;
inline constexpr u32 kChunkIndexes = 0x20;  // a chunk's entry has a device and an address
inline constexpr u32 kChunkBitsMax = 31;    // a chunk has so many blocks at most, as a power of two
inline constexpr u64 kNoChunk = ~u64{0};    // a hole
inline constexpr u64 kBlocksMax = 0xffff'fffe;

// Little-endian fields.
inline void put16(u8* at, u64 value) {
  at[0] = static_cast<u8>(value);
  at[1] = static_cast<u8>(value >> 8);
}
inline void put32(u8* at, u64 value) {
  put16(at, value);
  put16(at + 2, value >> 16);
}
inline void put64(u8* at, u64 value) {
  put32(at, value);
  put32(at + 4, value >> 32);
}

inline constexpr u64 round_up(u64 value, u64 unit) { return (value + unit - 1) / unit * unit; }

}  // namespace caisson::erofs
