// The vocabulary of core: integers, views, move-only helpers.
//
// core compiles unchanged for the addon (glibc), the static programs (musl) and the fuzzers (clang). It uses no
// exceptions, RTTI, iostreams, locales or any symbol of libstdc++: header-only parts of the standard library only.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <span>
#include <string_view>
#include <utility>

namespace caisson {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i32 = int32_t;
using i64 = int64_t;

using std::span;
using std::string_view;

// A part of a text, clamped to it: string_view::substr would bring libstdc++'s exception with it.
inline constexpr string_view part(string_view text, size_t from, size_t count = string_view::npos) {
  if (from > text.size()) from = text.size();
  if (count > text.size() - from) count = text.size() - from;
  return {text.data() + from, count};
}

// Runs a callable at the end of the scope unless dismissed: one step of an undo stack.
template <typename F>
class Defer {
 public:
  explicit Defer(F f) : f_(static_cast<F&&>(f)) {}
  Defer(const Defer&) = delete;
  Defer& operator=(const Defer&) = delete;
  ~Defer() {
    if (armed_) f_();
  }
  void dismiss() { armed_ = false; }

 private:
  F f_;
  bool armed_ = true;
};

}  // namespace caisson
