// Box<T> owns one object on the heap with a stable address: what an epoll source or a timer points at must not move.
#pragma once

#include <stdlib.h>

#include <new>

#include "core/base.h"

namespace caisson::monitor {

template <typename T>
class Box {
 public:
  Box() = default;
  template <typename... Args>
  static Box make(Args&&... args) {
    void* room = malloc(sizeof(T));
    if (room == nullptr) abort();  // as Vec and String do: every count is bounded before
    Box box;
    box.object_ = new (room) T(static_cast<Args&&>(args)...);
    return box;
  }
  Box(Box&& o) noexcept : object_(std::exchange(o.object_, nullptr)) {}
  Box& operator=(Box&& o) noexcept {
    std::swap(object_, o.object_);
    return *this;
  }
  Box(const Box&) = delete;
  Box& operator=(const Box&) = delete;
  ~Box() {
    if (object_ == nullptr) return;
    object_->~T();
    free(object_);
  }

  T* get() const { return object_; }
  T& operator*() const { return *object_; }
  T* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

}  // namespace caisson::monitor
