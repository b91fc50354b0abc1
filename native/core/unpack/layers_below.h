// LayersBelow: what the layers below one say of its directories. A layer may hold `tmp/x` and no entry for `tmp/`; the
// directory is then the one of the layers below, with its owner, mode, time and attributes, as it is for whoever
// applies one layer after the other to a single tree (umoci, docker). overlayfs shows those of the topmost layer that
// has it.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"
#include "core/unpack/tar_reader.h"

namespace caisson {

class LayersBelow {
 public:
  // Descriptors of the layers' trees, topmost first, O_PATH too; they stay the caller's. They are in overlayfs' form,
  // and have themselves taken over what layers below them say.
  explicit LayersBelow(span<const int> layers) : layers_(layers) {}

  // The directory that is asked for next: one that is in the last that was entered at `depth` - 1; at 0 the root, whose
  // name is "". `opaque`: nothing that layers below hold in it shows.
  void enter(u32 depth, string_view name, bool opaque);
  // Its path, "" for the root.
  string_view path() const { return path_; }
  // What they say of it, as the entry that the layer does not have; nullptr: nothing. Valid until the next call.
  Result<const tar::Entry*> find();

 private:
  struct Directory {
    size_t length = 0;  // of its path
    bool opaque = false;
    bool known = false;
    Vec<u16> layers = {};  // that have it, as far as they show
  };

  String name_of(const Directory& directory) const;
  Status look_up(const Directory& above, Directory& directory) const;
  Status read(int fd);

  span<const int> layers_;
  String path_;
  Vec<Directory> way_;  // from the root to the directory at path_
  tar::Entry entry_;
};

}  // namespace caisson
