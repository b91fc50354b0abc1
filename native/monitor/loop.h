// The event loop: one thread, epoll for descriptors, a list of deadlines for timers (epoll(7), level-triggered).
#pragma once

#include <sys/epoll.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"

namespace caisson::monitor {

class Loop;

// A method of an object as a callback, without allocation or libstdc++.
template <typename... Args>
class Callback {
 public:
  template <auto Method, typename T>
  void bind(T* self) {
    self_ = self;
    call_ = [](void* object, Args... args) { (static_cast<T*>(object)->*Method)(args...); };
  }
  void operator()(Args... args) const {
    if (call_ != nullptr) call_(self_, args...);
  }

 private:
  void* self_ = nullptr;
  void (*call_)(void*, Args...) = nullptr;
};

// A watched descriptor. It does not own the descriptor; declared after its Fd, it is unwatched before the Fd closes
// (epoll keeps an entry alive while any process, such as a child before its exec, still holds the description).
class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  ~Source() { unwatch(); }

  Callback<u32> on_events;
  Status watch(Loop& loop, int fd, u32 events);
  Status change(u32 events);
  void unwatch();
  bool watched() const { return loop_ != nullptr; }

 private:
  Loop* loop_ = nullptr;
  int fd_ = -1;
};

// A deadline on CLOCK_MONOTONIC; fires once. The list is unsorted: a pod has a few.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { cancel(); }

  Callback<> on_expiry;
  void arm_at(Loop& loop, i64 monotonic);
  void arm_in(Loop& loop, i64 nanoseconds);
  void cancel();
  bool armed() const { return loop_ != nullptr; }
  i64 deadline() const { return deadline_; }

 private:
  friend class Loop;
  Loop* loop_ = nullptr;
  Timer* next_ = nullptr;
  Timer* previous_ = nullptr;
  i64 deadline_ = 0;
};

class Loop {
 public:
  Status open();
  // Runs until stop(). Returns only an epoll_wait that failed for a reason other than a signal.
  Status run();
  void stop() { stopped_ = true; }

  // Runs after every batch of events: the place where objects that ended inside their own callback are freed.
  Callback<> after_batch;

 private:
  friend class Source;
  friend class Timer;
  void forget(const Source* source);
  void fire_timers();
  int wait_ms() const;

  static constexpr int kBatch = 32;
  Fd epoll_;
  epoll_event batch_[kBatch] = {};
  int batch_size_ = 0;
  Timer* timers_ = nullptr;
  bool stopped_ = false;
};

}  // namespace caisson::monitor
