// Taking apart the texts that the kernel writes: lines, words, numbers.
#pragma once

#include "core/base.h"

namespace caisson {

// What stands before `delimiter` (all of it where there is none), taken off the front together with it.
inline string_view take_until(string_view& text, char delimiter) {
  const size_t end = text.find(delimiter);
  const string_view taken = part(text, 0, end);
  text = end == text.npos ? string_view() : part(text, end + 1);
  return taken;
}

// The digits at the front, taken off. False where there are none, or they are more than 64 bits hold.
inline bool take_number(string_view& text, u64& number, u32 base = 10) {
  size_t digits = 0;
  number = 0;
  for (; digits < text.size(); ++digits) {
    const char c = text[digits];
    u32 digit = base;
    if (c >= '0' && c <= '9') digit = static_cast<u32>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<u32>(c - 'a') + 10;
    if (c >= 'A' && c <= 'F') digit = static_cast<u32>(c - 'A') + 10;
    if (digit >= base) break;
    if (__builtin_mul_overflow(number, u64{base}, &number) || __builtin_add_overflow(number, u64{digit}, &number))
      return false;
  }
  text.remove_prefix(digits);
  return digits != 0;
}

// A number and nothing else.
inline bool is_number(string_view text, u64& number, u32 base = 10) {
  return take_number(text, number, base) && text.empty();
}

// Calls visit(key, number) for each line "key number"; other lines are passed over.
template <typename Visit>
void each_count(string_view text, Visit visit) {
  while (!text.empty()) {
    string_view line = take_until(text, '\n');
    const string_view key = take_until(line, ' ');
    u64 number = 0;
    if (!key.empty() && is_number(line, number)) visit(key, number);
  }
}

// Calls visit(word) for the words of a line with single blanks.
template <typename Visit>
void each_word(string_view words, Visit visit) {
  while (!words.empty()) {
    const string_view word = take_until(words, ' ');
    if (!word.empty()) visit(word);
  }
}

}  // namespace caisson
