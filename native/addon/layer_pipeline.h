// A layer blob becomes a directory: it is decompressed in one thread, hashed in another, applied or indexed in a third,
// with a bounded ring between them. Threads of its own: it takes as long as the layer is large, and libuv's pool is for
// what is short.
#pragma once

#include <atomic>
#include <optional>
#include <variant>

#include "addon/decoder.h"
#include "core/erofs/indexed_layer.h"
#include "core/result.h"
#include "core/unpack/layer_apply.h"

namespace caisson {

struct PipelineLimits {
  tar::Limits tar;
  ExpansionLimits expansion;
};

// What the directory is to hold: the tree, or with a form the layer's index (core/block_mount.h has the names).
using LayerForm = std::optional<erofs::IndexForm>;

struct PipelineResult {
  LayerStats stats;
  u8 diff_id[32] = {};  // SHA-256 of the uncompressed archive
  u64 expanded = 0;     // its bytes
};

class LayerPipeline {
 public:
  // `inherits`: layers lie below.
  LayerPipeline(const LayerForm& form, const PipelineLimits& limits, bool inherits)
      : form_(form), limits_(limits), inherits_(inherits) {}

  // Blocks until all of the blob is in `directory`, or it has failed. Descriptors stay the caller's. Errors: those of
  // Decoder, LayerApply and LayerIndex; EFBIG "expand": over a limit of the expansion; ECANCELED.
  Result<PipelineResult> run(const BlobInput& blob, int directory);
  // Makes the layer whole, after run(), as LayerApply::settle() has it. EALREADY: it is, or not now.
  Result<bool> settle(LayersBelow below);
  // Lets go of a layer that is not to be settled; nothing where run() is at work, or settle().
  void drop();

 private:
  using Target = std::variant<LayerApply, IndexedLayer>;

  LayerForm form_;
  PipelineLimits limits_;
  bool inherits_;
  std::optional<Target> target_;
  std::atomic<bool> unsettled_ = false;
};

}  // namespace caisson
