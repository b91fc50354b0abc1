// What a tree has that a stack of layers has not, and what it lacks, as a layer.
#pragma once

#include <time.h>

#include "core/base.h"
#include "core/result.h"
#include "core/tree/clone_tree.h"

namespace caisson {

// Writes to the empty directory `to` the layer that makes the tree `upper` of `lowers` (layers, the topmost first; a
// tree counts as one). All are directories.
//
// A file is as it was when type, mode, owner, device, size and time of modification are the same, and so are extended
// attributes and content; these two are not looked at where the inode has not changed (st_ctime) since before `since`,
// when `upper` was made of `lowers`.
Result<CloneStats> diff_tree(span<const int> lowers, int upper, int to, timespec since,
                             const Cancellation& cancellation);

}  // namespace caisson
