// String and Vec: growable storage without libstdc++. Memory that cannot be had ends the program: the static
// programs are small and bounded, and every size from outside is checked before it is asked for.
// Never used between clone and exec.
#pragma once

#include <stdlib.h>
#include <string.h>

#include <new>

#include "core/base.h"

namespace caisson {

template <typename T>
class Vec {
 public:
  Vec() = default;
  Vec(Vec&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)), cap_(std::exchange(o.cap_, 0)) {}
  Vec& operator=(Vec&& o) noexcept {
    if (this != &o) {
      clear_storage();
      data_ = std::exchange(o.data_, nullptr);
      size_ = std::exchange(o.size_, 0);
      cap_ = std::exchange(o.cap_, 0);
    }
    return *this;
  }
  Vec(const Vec&) = delete;
  Vec& operator=(const Vec&) = delete;
  ~Vec() { clear_storage(); }

  T& push(T value) {
    if (size_ == cap_) reserve(cap_ == 0 ? 8 : cap_ * 2);
    T* slot = new (static_cast<void*>(data_ + size_)) T(static_cast<T&&>(value));
    ++size_;
    return *slot;
  }
  void pop() { data_[--size_].~T(); }
  // Removes element i by moving the last one into its place: order is not kept.
  void swap_remove(size_t i) {
    if (i + 1 != size_) data_[i] = static_cast<T&&>(data_[size_ - 1]);
    pop();
  }
  void clear() {
    while (size_ != 0) pop();
  }
  void reserve(size_t n) {
    if (n <= cap_) return;
    size_t bytes = 0;
    if (__builtin_mul_overflow(n, sizeof(T), &bytes)) abort();
    T* fresh = static_cast<T*>(malloc(bytes));
    if (fresh == nullptr) abort();
    for (size_t i = 0; i < size_; ++i) {
      new (static_cast<void*>(fresh + i)) T(static_cast<T&&>(data_[i]));
      data_[i].~T();
    }
    free(data_);
    data_ = fresh;
    cap_ = n;
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T& back() { return data_[size_ - 1]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  operator span<const T>() const { return {data_, size_}; }  // NOLINT: a view of itself

 private:
  void clear_storage() {
    clear();
    free(data_);
    data_ = nullptr;
    cap_ = 0;
  }
  T* data_ = nullptr;
  size_t size_ = 0;
  size_t cap_ = 0;
};

class String {
 public:
  static constexpr size_t kMax = size_t{1} << 30;

  String() = default;
  explicit String(string_view s) { append(s); }
  String(String&& o) noexcept : buf_(static_cast<Storage&&>(o.buf_)), len_(std::exchange(o.len_, 0)) {}
  String& operator=(String&& o) noexcept {
    std::swap(buf_, o.buf_);
    std::swap(len_, o.len_);
    return *this;
  }

  String& append(string_view s) {
    if (s.empty()) return *this;
    if (s.size() > kMax) abort();
    grow(len_ + s.size());
    memcpy(buf_.get() + len_, s.data(), s.size());
    len_ += s.size();
    buf_.get()[len_] = '\0';
    return *this;
  }
  String& append(char c) { return append(string_view(&c, 1)); }
  String& append_u64(u64 value) {
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = static_cast<char>('0' + value % 10);
    while ((value /= 10) != 0);
    return append(string_view(digits + at, sizeof digits - at));
  }
  String& append_i64(i64 value) {
    if (value < 0) append('-');
    return append_u64(value < 0 ? 0 - static_cast<u64>(value) : static_cast<u64>(value));
  }
  void clear() { truncate(0); }
  // Keeps the first `size` bytes; no more than there are.
  void truncate(size_t size) {
    len_ = size;
    if (buf_.get() != nullptr) buf_.get()[len_] = '\0';
  }

  const char* c_str() const { return buf_.get() == nullptr ? "" : buf_.get(); }
  size_t size() const { return len_; }
  bool empty() const { return len_ == 0; }
  string_view view() const { return {c_str(), len_}; }
  operator string_view() const { return view(); }  // NOLINT: a view of itself

 private:
  struct Storage {
    Storage() = default;
    Storage(Storage&& o) noexcept : p(std::exchange(o.p, nullptr)), cap(std::exchange(o.cap, 0)) {}
    Storage& operator=(Storage&& o) noexcept {
      std::swap(p, o.p);
      std::swap(cap, o.cap);
      return *this;
    }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;
    ~Storage() { free(p); }
    char* get() const { return p; }
    char* p = nullptr;
    size_t cap = 0;
  };
  void grow(size_t need) {
    if (need + 1 <= buf_.cap) return;
    size_t cap = buf_.cap * 2 < need + 1 ? need + 1 : buf_.cap * 2;
    char* fresh = static_cast<char*>(realloc(buf_.p, cap));
    if (fresh == nullptr) abort();
    buf_.p = fresh;
    buf_.cap = cap;
  }
  Storage buf_;
  size_t len_ = 0;
};

}  // namespace caisson
