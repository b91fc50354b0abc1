// IndexedLayer: a layer in the form that mount_erofs() takes (core/block_mount.h): the archive as it is, if its index
// points into it, and the index. Their directory gets mode and owner of the layer's top, as an unpacked layer's has.
#pragma once

#include "core/erofs/layer_index.h"
#include "core/fd.h"

namespace caisson {

class IndexedLayer {
 public:
  // `directory`: empty, a descriptor that stays the caller's, O_PATH too.
  static Result<IndexedLayer> create(int directory, const erofs::IndexForm& form, const tar::Limits& limits,
                                     bool inherits = false);

  // The next bytes of the tar, its end, and that of the layer, as LayerApply has them.
  Status write(span<const u8> chunk);
  Result<LayerStats> end();
  Result<bool> settle(LayersBelow below);

 private:
  IndexedLayer(Fd directory, Fd index_file, Fd archive, erofs::LayerIndex index)
      : directory_(static_cast<Fd&&>(directory)),
        index_file_(static_cast<Fd&&>(index_file)),
        archive_(static_cast<Fd&&>(archive)),
        index_(static_cast<erofs::LayerIndex&&>(index)) {}

  Fd directory_;
  Fd index_file_;
  Fd archive_;
  u64 size_ = 0;  // of the archive
  erofs::LayerIndex index_;
};

}  // namespace caisson
