// Result<T>: a value, or an Error that says which system call failed, with which errno, on what object.
//
// An Error never allocates: its object is a bounded copy, so that it can be made where memory is short.
#pragma once

#include <errno.h>
#include <string.h>

#include <new>

#include "core/base.h"

namespace caisson {

struct [[nodiscard]] Error {
  static constexpr size_t kObjectMax = 240;

  int err = 0;                   // errno, positive
  const char* call = "";         // system call or operation, static text: "openat2", "parse"
  char object[kObjectMax] = {};  // the path, property or id it failed on; truncated, NUL-terminated

  Error() = default;
  Error(int e, const char* c, string_view what = {}) : err(e), call(c) {
    size_t n = what.size() < kObjectMax - 1 ? what.size() : kObjectMax - 1;
    if (n != 0) memcpy(object, what.data(), n);
  }
  // The error of the system call that has just failed.
  static Error last(const char* c, string_view what = {}) { return Error(errno, c, what); }
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : ok_(true) { new (&value_) T(static_cast<T&&>(value)); }  // NOLINT: implicit by design
  Result(Error error) : ok_(false) { new (&error_) Error(error); }           // NOLINT: implicit by design
  Result(Result&& o) noexcept : ok_(o.ok_) {
    if (ok_)
      new (&value_) T(static_cast<T&&>(o.value_));
    else
      new (&error_) Error(o.error_);
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  Result& operator=(Result&&) = delete;
  ~Result() {
    if (ok_) value_.~T();
  }

  explicit operator bool() const { return ok_; }
  T& operator*() { return value_; }
  const T& operator*() const { return value_; }
  T* operator->() { return &value_; }
  T take() { return static_cast<T&&>(value_); }
  const Error& error() const { return error_; }

 private:
  bool ok_;
  union {
    T value_;
    Error error_;
  };
};

// Success without a value.
struct Unit {};
using Status = Result<Unit>;
inline Status ok() { return Unit{}; }

// Yields the value or returns the error from the calling function. The counter lets one stand inside another.
#define CAISSON_TRY(expr) CAISSON_TRY_NAMED_(expr, __COUNTER__)
#define CAISSON_TRY_NAMED_(expr, n) CAISSON_TRY_NAMED2_(expr, n)
#define CAISSON_TRY_NAMED2_(expr, n)                            \
  __extension__({                                               \
    auto caisson_result_##n = (expr);                           \
    if (!caisson_result_##n) return caisson_result_##n.error(); \
    caisson_result_##n.take();                                  \
  })

}  // namespace caisson
