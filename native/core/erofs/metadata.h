// The metadata of an EROFS file: what a Tree holds becomes inodes, directories and a super block.
#pragma once

#include "core/erofs/tree.h"

namespace caisson::erofs {

struct Geometry {
  u32 block_bits = 9;     // log2 of a block
  u64 metadata_at = 0;    // where it begins: the end of the file's own data, a whole block
  bool device = false;    // chunks of device 1 are there
  u64 device_blocks = 0;  // its size
};

// Writes it to `fd`, a new file that holds the data of its own already. Error EFBIG: over 2^32 blocks.
Status write_metadata(int fd, const Tree& tree, const Geometry& geometry);

}  // namespace caisson::erofs
