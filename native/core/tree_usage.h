// What a tree takes of its file system, as du(1) counts it.
#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson {

struct TreeUsage {
  u64 bytes = 0;    // allocated: st_blocks, also what is not written back yet
  u64 content = 0;  // lengths of regular files
  u64 inodes = 0;   // the top included; a file with several names once
};

// The tree at `name` below `dir`. Nothing is followed, no other mount is entered. Error ENAMETOOLONG: a directory lies
// deeper than 4095 bytes of path, which no layer holds.
Result<TreeUsage> tree_usage_at(int dir, const char* name);

}  // namespace caisson
