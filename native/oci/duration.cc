#include "oci/duration.h"

#include "oci/options.h"

namespace caisson::oci {

namespace {

struct Unit {
  string_view name;
  i64 nanoseconds;
};
constexpr Unit kUnits[] = {
    {"ns", 1},
    {"us", 1000},
    {"\xc2\xb5s", 1000},
    {"ms", 1'000'000},
    {"s", 1'000'000'000},
    {"m", 60'000'000'000},
    {"h", 3'600'000'000'000},
};

bool is_number(char c) { return (c >= '0' && c <= '9') || c == '.'; }

// "1.5" units in nanoseconds; at most nine digits after the point.
bool scale(string_view number, i64 unit, i64& out) {
  const size_t dot = number.find('.');
  const string_view digits = dot == string_view::npos ? string_view() : part(number, dot + 1);
  i64 whole = 0;
  i64 fraction = 0;
  if (dot != 0 && !parse_number(part(number, 0, dot), whole)) return false;
  if (digits.size() > 9 || (digits.empty() && dot != string_view::npos)) return false;
  if (!digits.empty() && !parse_number(digits, fraction)) return false;
  i64 scaled = 0;
  if (__builtin_mul_overflow(whole, unit, &scaled)) return false;
  double part_of = static_cast<double>(fraction) * static_cast<double>(unit);
  for (size_t i = 0; i < digits.size(); ++i) part_of /= 10;
  return !__builtin_add_overflow(scaled, static_cast<i64>(part_of), &out);
}

}  // namespace

bool parse_duration(string_view text, int& milliseconds) {
  if (text == "0") return milliseconds = 0, true;
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  i64 total = 0;
  if (text.empty()) return false;
  while (!text.empty()) {
    size_t end = 0;
    while (end < text.size() && is_number(text[end])) ++end;
    size_t stop = end;
    while (stop < text.size() && !is_number(text[stop])) ++stop;
    i64 unit = 0;
    for (const Unit& each : kUnits)
      if (part(text, end, stop - end) == each.name) unit = each.nanoseconds;
    i64 value = 0;
    if (end == 0 || unit == 0 || !scale(part(text, 0, end), unit, value) ||
        __builtin_add_overflow(total, value, &total))
      return false;
    text.remove_prefix(stop);
  }
  total /= 1'000'000;
  if (total > 2'000'000'000) return false;
  milliseconds = static_cast<int>(negative ? -total : total);
  return true;
}

}  // namespace caisson::oci
