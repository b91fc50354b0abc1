#include "addon/layer_pipeline.h"

#include <errno.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "addon/sha256.h"
#include "core/sys.h"

namespace caisson {

namespace {

constexpr size_t kSlots = 4;
constexpr size_t kSlotSize = 512 * 1024;

// Who reads the ring.
enum Reader : size_t { kDigest, kTarget, kReaders };

// Filled slots between one thread that writes them and two that read each of them. Any side ends it; the others see
// that at their next step.
class Ring {
 public:
  Ring() {
    for (std::vector<u8>& slot : slots_) slot.resize(kSlotSize);
  }

  // The slot to fill; none when a reader has ended.
  u8* fill() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || written_ - slowest() < kSlots; });
    return closed_ ? nullptr : slots_[written_ % kSlots].data();
  }
  void filled(size_t size) {
    {
      const std::lock_guard lock(mutex_);
      sizes_[written_++ % kSlots] = size;
    }
    changed_.notify_all();
  }
  // The next filled slot; nothing when the ring is closed and all is read.
  std::optional<span<const u8>> next(Reader reader) {
    const size_t& read = read_[reader];
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || read != written_; });
    if (read == written_) return std::nullopt;
    return span<const u8>(slots_[read % kSlots].data(), sizes_[read % kSlots]);
  }
  void taken(Reader reader) {
    {
      const std::lock_guard lock(mutex_);
      ++read_[reader];
    }
    changed_.notify_all();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  size_t slowest() const { return std::min(read_[kDigest], read_[kTarget]); }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<u8> slots_[kSlots];
  size_t sizes_[kSlots] = {};
  size_t written_ = 0;
  size_t read_[kReaders] = {};
  bool closed_ = false;
};

// The first thread: from the blob into the ring.
Status expand(const BlobInput& blob, const ExpansionLimits& limits, Ring& ring, u64& expanded) {
  const std::unique_ptr<Decoder> decoder = CAISSON_TRY(Decoder::open(blob));
  for (;;) {
    u8* const slot = ring.fill();
    if (slot == nullptr) return ok();  // another thread has failed, and says why
    const size_t n = CAISSON_TRY(decoder->read({slot, kSlotSize}, limits));
    if (n == 0) break;
    ring.filled(n);
  }
  expanded = decoder->expanded();
  return ok();
}

// The second: the diff id of what comes through.
Status digest(Ring& ring, u8 (&out)[Sha256::kSize]) {
  Sha256 hash;
  while (const std::optional<span<const u8>> chunk = ring.next(kDigest)) {
    if (!hash.update(*chunk)) return Error(ENOTSUP, "EVP_DigestUpdate", "SHA-256");
    ring.taken(kDigest);
  }
  return hash.finish(out) ? ok() : Status(Error(ENOTSUP, "EVP_DigestFinal_ex", "SHA-256"));
}

// The third, the caller's: what comes through goes to `target`, a LayerApply or what does as it does.
template <typename Target>
Status apply(Ring& ring, Target& target, const std::atomic<bool>& cancelled) {
  while (const std::optional<span<const u8>> chunk = ring.next(kTarget)) {
    if (cancelled) return Error(ECANCELED, "unpack", "layer");
    CAISSON_TRY(target.write(*chunk));
    ring.taken(kTarget);
  }
  return ok();
}

// Of this thread alone: that of the process is everybody's. Returns what it is now, as far as it is known.
mode_t clear_umask() {
  if (sys::unshare(CLONE_FS) != 0) return 0777;
  umask(0);
  return 0;
}

template <typename Target>
Result<PipelineResult> feed(const BlobInput& blob, Target& target, const PipelineLimits& limits) {
  PipelineResult result;
  Ring ring;
  std::optional<Status> expanded;
  std::optional<Status> hashed;
  // a stage that has ended, well or not, closes the ring; what is in it is still read
  std::thread expanding([&] {
    expanded.emplace(expand(blob, limits.expansion, ring, result.expanded));
    ring.close();
  });
  std::thread hashing([&] {
    hashed.emplace(digest(ring, result.diff_id));
    if (!*hashed) ring.close();
  });
  const Status applied = apply(ring, target, blob.cancelled);
  if (!applied) ring.close();
  expanding.join();
  hashing.join();
  if (!applied) return applied.error();
  if (!*expanded) return expanded->error();
  if (!*hashed) return hashed->error();
  result.stats = CAISSON_TRY(target.end());
  return result;
}

}  // namespace

Result<PipelineResult> LayerPipeline::run(const BlobInput& blob, int directory) {
  if (form_)
    target_.emplace(CAISSON_TRY(IndexedLayer::create(directory, *form_, limits_.tar, inherits_)));
  else
    target_.emplace(CAISSON_TRY(LayerApply::create(directory, limits_.tar, inherits_, clear_umask())));
  Result<PipelineResult> result = std::visit([&](auto& target) { return feed(blob, target, limits_); }, *target_);
  if (result)
    unsettled_ = true;
  else
    target_.reset();
  return result;
}

Result<bool> LayerPipeline::settle(LayersBelow below) {
  if (!unsettled_.exchange(false)) return Error(EALREADY, "settle", "layer");
  Result<bool> whole = std::visit([&](auto& target) { return target.settle(std::move(below)); }, *target_);
  if (whole && !*whole)
    unsettled_ = true;
  else
    target_.reset();
  return whole;
}

void LayerPipeline::drop() {
  if (unsettled_.exchange(false)) target_.reset();
}

}  // namespace caisson
