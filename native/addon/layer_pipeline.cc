#include "addon/layer_pipeline.h"

#include <errno.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "addon/sha256.h"
#include "core/erofs/indexed_layer.h"

namespace caisson {

namespace {

constexpr size_t kSlots = 4;
constexpr size_t kSlotSize = 512 * 1024;

// Filled slots between the two threads. Either side ends it; the other sees that at its next step.
class Ring {
 public:
  Ring() {
    for (std::vector<u8>& slot : slots_) slot.resize(kSlotSize);
  }

  // The slot to fill; none when the reader has ended.
  u8* fill() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || written_ - read_ < kSlots; });
    return closed_ ? nullptr : slots_[written_ % kSlots].data();
  }
  void filled(size_t size) {
    const std::lock_guard lock(mutex_);
    sizes_[written_++ % kSlots] = size;
    changed_.notify_all();
  }
  // The next filled slot; nothing when the writer has ended and all is read.
  std::optional<span<const u8>> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || read_ != written_; });
    if (read_ == written_) return std::nullopt;
    return span<const u8>(slots_[read_ % kSlots].data(), sizes_[read_ % kSlots]);
  }
  void taken() {
    const std::lock_guard lock(mutex_);
    ++read_;
    changed_.notify_all();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<u8> slots_[kSlots];
  size_t sizes_[kSlots] = {};
  size_t written_ = 0;
  size_t read_ = 0;
  bool closed_ = false;
};

Status hash_more(Sha256& hash, span<const u8> bytes) {
  return hash.update(bytes) ? ok() : Status(Error(ENOTSUP, "EVP_DigestUpdate", "SHA-256"));
}

// The first thread: from the blob into the ring.
Status expand(const BlobInput& blob, const PipelineLimits& limits, Ring& ring, Sha256* hash, PipelineResult& result) {
  const std::unique_ptr<Decoder> decoder = CAISSON_TRY(Decoder::open(blob));
  for (;;) {
    u8* const slot = ring.fill();
    if (slot == nullptr) return ok();  // the other thread has failed, and says why
    const size_t n = CAISSON_TRY(decoder->read({slot, kSlotSize}, limits.expansion));
    if (n == 0) break;
    if (hash != nullptr) CAISSON_TRY(hash_more(*hash, {slot, n}));
    ring.filled(n);
  }
  result.expanded = decoder->expanded();
  return ok();
}

// Which of the two hashes: the one that has less to do. Nothing is made but two files where a layer is indexed.
enum class Hasher { kExpanding, kApplying };

// The second thread, the caller's: what comes through the ring goes to `target`, a LayerApply or what does as it does.
template <typename Target>
Result<PipelineResult> run(const BlobInput& blob, Target& target, Hasher hasher, const PipelineLimits& limits) {
  PipelineResult result;
  Ring ring;
  Sha256 hash;
  const bool own = hasher == Hasher::kApplying;
  std::optional<Error> failed;
  std::thread producer([&] {
    const Status expanded = expand(blob, limits, ring, own ? nullptr : &hash, result);
    if (!expanded) failed = expanded.error();
    ring.close();
  });
  while (const std::optional<span<const u8>> chunk = ring.next()) {
    const auto take = [&]() -> Status {
      if (blob.cancelled) return Error(ECANCELED, "unpack", "layer");
      if (own) CAISSON_TRY(hash_more(hash, *chunk));
      return target.write(*chunk);
    };
    const Status written = take();
    if (!written) {
      ring.close();
      producer.join();
      return written.error();
    }
    ring.taken();
  }
  producer.join();
  if (failed) return *failed;
  if (!hash.finish(result.diff_id)) return Error(ENOTSUP, "EVP_DigestFinal_ex", "SHA-256");
  result.stats = CAISSON_TRY(target.finish());
  return result;
}

}  // namespace

Result<PipelineResult> run_layer_pipeline(const BlobInput& blob, int directory, const LayerForm& form,
                                          const PipelineLimits& limits) {
  if (form) {
    IndexedLayer target = CAISSON_TRY(IndexedLayer::create(directory, *form, limits.tar));
    return run(blob, target, Hasher::kApplying, limits);
  }
  LayerApply target = CAISSON_TRY(LayerApply::create(directory, limits.tar));
  return run(blob, target, Hasher::kExpanding, limits);
}

}  // namespace caisson
