// A layer blob becomes a directory: it is decompressed in one thread, hashed in another, applied or indexed in a third,
// with a bounded ring between them. Threads of its own: it takes as long as the layer is large, and libuv's pool is for
// what is short.
#pragma once

#include <optional>

#include "addon/decoder.h"
#include "core/erofs/layer_index.h"
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

// Blocks until the layer is in `directory`, or has failed. Both descriptors stay the caller's. Errors: those of
// Decoder, LayerApply and LayerIndex; EFBIG "expand": over a limit of the expansion; ECANCELED.
Result<PipelineResult> run_layer_pipeline(const BlobInput& blob, int directory, const LayerForm& form,
                                          const PipelineLimits& limits);

}  // namespace caisson
