// The end of a layer's making: uncompressed bytes in, a blob out, both hashed on the way, compressed in between if that
// is asked for. What comes out depends on what goes in alone, not on the pieces in which it comes.
#pragma once

#include <isa-l/igzip_lib.h>

#include <atomic>
#include <vector>

#include "addon/sha256.h"
#include "core/base.h"
#include "core/byte_sink.h"
#include "core/result.h"

namespace caisson {

struct SunkLayer {
  u8 diff_id[Sha256::kSize] = {};  // of the uncompressed bytes
  u8 digest[Sha256::kSize] = {};   // of the blob
  u64 size = 0;                    // bytes of the blob
  u64 expanded = 0;                // uncompressed bytes
};

class LayerSink final : public ByteSink {
 public:
  // `out` stays the caller's; -1: nothing is written, only measured. `gzip`: ISA-L's, level 3, without name and time.
  LayerSink(int out, bool gzip, const std::atomic<bool>& cancelled);

  // Errors: ECANCELED; those of write(2), EPIPE where a pipe's reader has gone.
  Status write(span<const u8> data) override;
  Result<SunkLayer> finish();

 private:
  Status flush();
  Status deflate(bool last);
  Status put(span<const u8> blob);

  int out_;
  bool gzip_;
  const std::atomic<bool>& cancelled_;
  std::vector<u8> block_;
  size_t filled_ = 0;
  std::vector<u8> compressed_;
  std::vector<u8> level_buffer_;
  isal_zstream stream_ = {};
  Sha256 diff_id_;
  Sha256 digest_;
  SunkLayer result_;
};

}  // namespace caisson
