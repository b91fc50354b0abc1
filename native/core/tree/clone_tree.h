// Whole trees copied on disk: type, owner, mode, extended attributes, hard links, devices, times, holes.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/tree/copy_file.h"

namespace caisson {

enum class CloneKind {
  // `to`, which is empty, becomes a layer as `from` is one; what overlayfs has noted for itself is left out.
  kLayer,
  // `from` is a layer, and `to` the tree that it changes: whiteouts remove, opaque directories begin anew, other
  // entries
  // take the place of what is there (image-spec layer.md, "Applying Changesets").
  kApply,
};

struct CloneStats {
  u64 entries = 0;
  u64 bytes = 0;  // lengths of regular files
};

// Copies the tree in the directory `from` to the directory `to`, both open for reading, and the attributes of the
// directory itself. Links are never followed, mounts never entered. What vanishes meanwhile is left out; what cannot be
// copied ends the copy, and leaves `to` unfinished. ELOOP: deeper than 512 directories. ECANCELED: was cancelled.
Result<CloneStats> clone_tree(int from, int to, CloneKind kind, const Cancellation& cancellation);

}  // namespace caisson
