// One file copied as it is: its data, and what else its inode holds.
#pragma once

#include <sys/stat.h>

#include "core/base.h"
#include "core/result.h"

namespace caisson {

// Set by another thread to end a copy under way, which then fails with ECANCELED.
class Cancellation {
 public:
  void cancel() { __atomic_store_n(&cancelled_, true, __ATOMIC_RELAXED); }
  bool cancelled() const { return __atomic_load_n(&cancelled_, __ATOMIC_RELAXED); }

 private:
  bool cancelled_ = false;
};

// Which extended attributes a copy has.
enum class CopyXattrs {
  kTree,   // of a tree as programs see it: none of overlayfs'
  kLayer,  // of a layer (core/unpack/layer_apply.h): the mark of an opaque directory stays
};

// The data of `from` to the empty file `to`: shared where the file system can (FICLONE), else copied with its holes.
Status copy_data(int from, int to, u64 size, const Cancellation& cancellation);

// Owner, mode, extended attributes and times. Both descriptors may be O_PATH.
Status copy_attributes(int from, int to, const struct stat& st, CopyXattrs which, string_view what);

}  // namespace caisson
