// Growth: how far a file has come that one thread writes from its beginning on, while another reads it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "core/base.h"

namespace caisson {

class Growth {
 public:
  // So many bytes are there.
  void reached(u64 size) {
    const std::lock_guard lock(mutex_);
    size_ = size;
    changed_.notify_all();
  }
  // No more come: it is whole, or was given up.
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  // Blocks until there are more than `offset` bytes. False: there will not be, or `cancelled`, which wake() has looked
  // at.
  bool wait(u64 offset, const std::atomic<bool>& cancelled) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return size_ > offset || ended_ || cancelled; });
    return size_ > offset && !cancelled;
  }
  void wake() {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  u64 size_ = 0;
  bool ended_ = false;
};

}  // namespace caisson
