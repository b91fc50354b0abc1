#include "monitor/loop.h"

#include "core/clock.h"

namespace caisson::monitor {

Status Source::watch(Loop& loop, int fd, u32 events) {
  unwatch();
  epoll_event event{};
  event.events = events;
  event.data.ptr = this;
  if (epoll_ctl(loop.epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Error::last("epoll_ctl");
  loop_ = &loop;
  fd_ = fd;
  return ok();
}

Status Source::change(u32 events) {
  if (loop_ == nullptr) return Error(ENOENT, "epoll_ctl");
  epoll_event event{};
  event.events = events;
  event.data.ptr = this;
  if (epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_MOD, fd_, &event) != 0) return Error::last("epoll_ctl");
  return ok();
}

void Source::unwatch() {
  if (loop_ == nullptr) return;
  epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
  loop_->forget(this);
  loop_ = nullptr;
  fd_ = -1;
}

void Timer::arm_at(Loop& loop, i64 monotonic) {
  cancel();
  loop_ = &loop;
  deadline_ = monotonic;
  next_ = loop.timers_;
  if (next_ != nullptr) next_->previous_ = this;
  loop.timers_ = this;
}

void Timer::arm_in(Loop& loop, i64 nanoseconds) { arm_at(loop, monotonic_ns() + nanoseconds); }

void Timer::cancel() {
  if (loop_ == nullptr) return;
  if (previous_ != nullptr)
    previous_->next_ = next_;
  else
    loop_->timers_ = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
  next_ = previous_ = nullptr;
  loop_ = nullptr;
}

Status Loop::open() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return Error::last("epoll_create1");
  return ok();
}

// An event of the current batch may belong to a source that an earlier one of the same batch has just unwatched.
void Loop::forget(const Source* source) {
  for (int i = 0; i < batch_size_; ++i)
    if (batch_[i].data.ptr == source) batch_[i].data.ptr = nullptr;
}

int Loop::wait_ms() const {
  if (timers_ == nullptr) return -1;
  i64 nearest = timers_->deadline_;
  for (const Timer* t = timers_; t != nullptr; t = t->next_)
    if (t->deadline_ < nearest) nearest = t->deadline_;
  i64 left = nearest - monotonic_ns();
  if (left <= 0) return 0;
  i64 ms = (left + kMillisecond - 1) / kMillisecond;  // up: waking early would spin until the deadline
  return ms > 3'600'000 ? 3'600'000 : static_cast<int>(ms);
}

// A callback may arm or cancel any timer, so the list is read anew after each.
void Loop::fire_timers() {
  i64 now = monotonic_ns();
  for (Timer* t = timers_; t != nullptr;) {
    if (t->deadline_ > now) {
      t = t->next_;
      continue;
    }
    Callback<> expired = t->on_expiry;
    t->cancel();
    expired();
    t = timers_;
  }
}

Status Loop::run() {
  while (!stopped_) {
    int n = epoll_wait(epoll_.get(), batch_, kBatch, wait_ms());
    if (n < 0) {
      if (errno == EINTR) continue;
      return Error::last("epoll_wait");
    }
    batch_size_ = n;
    for (int i = 0; i < n; ++i) {
      auto* source = static_cast<Source*>(batch_[i].data.ptr);
      if (source == nullptr) continue;
      Callback<u32> handler = source->on_events;  // the source may end inside its own callback
      handler(batch_[i].events);
    }
    batch_size_ = 0;
    fire_timers();
    after_batch();
  }
  return ok();
}

}  // namespace caisson::monitor
