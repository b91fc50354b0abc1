// The uncompressed bytes of a layer blob: gzip by ISA-L's igzip, zstd by libzstd, or as they are. What the blob is, its
// first bytes say: registries hold layers whose media type is wrong, and the digest covers the bytes alone.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "addon/growth.h"
#include "core/base.h"
#include "core/result.h"

namespace caisson {

struct ExpansionLimits {
  u64 max_expanded = 0;  // bytes that may come out
  // Bytes that may come out per byte of the blob, asked once more than `ratio_floor` bytes have.
  u64 max_ratio = 0;
  u64 ratio_floor = 0;
};

// The blob's file.
struct BlobInput {
  int fd;                              // stays the caller's; read from its beginning on (pread(2))
  const std::atomic<bool>& cancelled;  // asked before each read
  Growth* growth = nullptr;            // it is still being written, and waited for; none: it is whole
};

class Decoder {
 public:
  static Result<std::unique_ptr<Decoder>> open(const BlobInput& input);
  virtual ~Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // Fills `out` as far as there is something; 0 is the end. Errors: EBADMSG "gzip" or "zstd": damaged or truncated;
  // ECANCELED; those of pread(2).
  virtual Result<size_t> read(span<u8> out) = 0;
  // The same within limits, which must not change between two calls. Error EFBIG "expand": over one of them.
  Result<size_t> read(span<u8> out, const ExpansionLimits& limits);
  // Bytes that have come out of it within limits.
  u64 expanded() const { return expanded_; }
  // Bytes of the blob that were read so far.
  u64 consumed() const { return offset_; }

 protected:
  explicit Decoder(const BlobInput& input) : input_(input), buffer_(kInputSize) {}
  // The next bytes of the blob; none is its end.
  Result<span<u8>> more();

 private:
  static constexpr size_t kInputSize = 256 * 1024;
  BlobInput input_;
  u64 offset_ = 0;
  u64 expanded_ = 0;
  std::vector<u8> buffer_;
};

}  // namespace caisson
