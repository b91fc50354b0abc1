#include "core/clock.h"

#include <string.h>
#include <time.h>

namespace caisson {

namespace {

i64 read_clock(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);  // cannot fail for these two
  return static_cast<i64>(t.tv_sec) * kSecond + t.tv_nsec;
}

void digits(char* out, u64 value, int width) {
  while (width > 0) {
    out[--width] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

}  // namespace

i64 realtime_ns() { return read_clock(CLOCK_REALTIME); }
i64 monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }

void format_timestamp(i64 realtime, char (&out)[kTimestampSize]) {
  if (realtime < 0) realtime = 0;
  u64 seconds = static_cast<u64>(realtime / kSecond);
  u64 of_day = seconds % 86400;
  // Civil date from days since 1970-03-01, in eras of 400 years: no time zone data, no static buffer of the C library.
  u64 days = seconds / 86400 + 719468;
  u64 era = days / 146097;
  u64 day_of_era = days % 146097;
  u64 year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  u64 day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  u64 shifted_month = (5 * day_of_year + 2) / 153;  // 0 is March
  u64 day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  u64 month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  u64 year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);

  memcpy(out, "0000-00-00T00:00:00.000000000Z", kTimestampSize);
  digits(out, year, 4);
  digits(out + 5, month, 2);
  digits(out + 8, day, 2);
  digits(out + 11, of_day / 3600, 2);
  digits(out + 14, of_day / 60 % 60, 2);
  digits(out + 17, of_day % 60, 2);
  digits(out + 20, static_cast<u64>(realtime % kSecond), 9);
}

}  // namespace caisson
