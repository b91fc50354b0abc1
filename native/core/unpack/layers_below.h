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
  // and have themselves taken over what layers below them say. `all`: there are no others further below.
  LayersBelow(span<const int> layers, bool all) : layers_(layers), all_(all) {}

  // The directory that is asked for next: one that is in the last that was entered at `depth` - 1; at 0 the root, whose
  // name is "". `opaque`: nothing that layers below hold in it shows.
  void enter(u32 depth, string_view name, bool opaque);
  // Its path, "" for the root.
  string_view path() const { return path_; }

  struct Answer {
    bool known = true;                  // false: it is for the layers further below to say
    const tar::Entry* entry = nullptr;  // as the layer might have had it; nullptr: they say nothing
  };
  // Valid until the next call.
  Result<Answer> find();

 private:
  struct Directory {
    size_t length = 0;  // of its path
    bool opaque = false;
    bool hidden = false;   // what is further below than what was looked at
    u32 looked_at = 0;     // of the layers that have the directory above, so many
    Vec<u16> layers = {};  // that have it, as far as was looked
  };

  String name_of(const Directory& directory) const;
  Result<int> layer(size_t depth, size_t number);
  Status look_at(u16 layer, Directory& directory) const;
  Status read(int fd);

  span<const int> layers_;
  bool all_;
  String path_;
  Vec<Directory> way_;  // from the root to the directory at path_
  tar::Entry entry_;
};

}  // namespace caisson
