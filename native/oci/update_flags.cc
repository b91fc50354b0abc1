#include "oci/update_flags.h"

#include "core/json.h"

namespace caisson::oci {

namespace {

enum class Kind { kNumber, kBytes, kText };

struct Member {
  string_view flag;
  string_view section;
  string_view key;
  Kind kind;
};
// In the order of sections.
constexpr Member kMembers[] = {
    {"memory", "memory", "limit", Kind::kBytes},
    {"memory-reservation", "memory", "reservation", Kind::kBytes},
    {"memory-swap", "memory", "swap", Kind::kBytes},
    {"kernel-memory", "memory", "kernel", Kind::kBytes},
    {"kernel-memory-tcp", "memory", "kernelTCP", Kind::kBytes},
    {"cpu-share", "cpu", "shares", Kind::kNumber},
    {"cpu-quota", "cpu", "quota", Kind::kNumber},
    {"cpu-period", "cpu", "period", Kind::kNumber},
    {"cpu-burst", "cpu", "burst", Kind::kNumber},
    {"cpu-rt-period", "cpu", "realtimePeriod", Kind::kNumber},
    {"cpu-rt-runtime", "cpu", "realtimeRuntime", Kind::kNumber},
    {"cpu-idle", "cpu", "idle", Kind::kNumber},
    {"cpuset-cpus", "cpu", "cpus", Kind::kText},
    {"cpuset-mems", "cpu", "mems", Kind::kText},
    {"blkio-weight", "blockIO", "weight", Kind::kNumber},
    {"pids-limit", "pids", "limit", Kind::kNumber},
};

}  // namespace

bool parse_bytes(string_view text, i64& out) {
  constexpr string_view kUnits = "kmgtp";
  // A number, a fraction of at most three digits, a unit that may be written "k", "kb" or "KiB".
  size_t end = 0;
  while (end < text.size() && ((text[end] >= '0' && text[end] <= '9') || text[end] == '.')) ++end;
  string_view number = part(text, 0, end);
  string_view unit = part(text, end);
  const size_t dot = number.find('.');
  i64 whole = 0;
  i64 thousandths = 0;
  if (dot != string_view::npos) {
    const string_view digits = part(number, dot + 1);
    if (digits.empty() || digits.size() > 3 || !parse_number(digits, thousandths)) return false;
    for (size_t i = digits.size(); i < 3; ++i) thousandths *= 10;
  }
  if (!parse_number(part(number, 0, dot), whole)) return false;
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  u32 shift = 0;
  if (!unit.empty() && unit != "b" && unit != "B") {
    const size_t power = kUnits.find(static_cast<char>(unit[0] | 0x20));
    if (power == string_view::npos) return false;
    unit.remove_prefix(1);
    if (unit.starts_with('i')) unit.remove_prefix(1);
    if (!unit.empty() && unit != "b" && unit != "B") return false;
    shift = 10 * (static_cast<u32>(power) + 1);
  }
  i64 bytes = 0;
  i64 part_bytes = 0;
  if (__builtin_mul_overflow(whole, i64{1} << shift, &bytes)) return false;
  if (__builtin_mul_overflow(thousandths, i64{1} << shift, &part_bytes)) return false;
  return !__builtin_add_overflow(bytes, part_bytes / 1000, &out);
}

Outcome<String> resources_of(const Options& options) {
  String text;
  JsonWriter json(text);
  json.begin_object();
  string_view section;
  for (const Member& member : kMembers) {
    const string_view given = options.text(member.flag);
    if (given.empty()) continue;
    if (section != member.section) {
      if (!section.empty()) json.end_object();
      json.key(member.section).begin_object();
      section = member.section;
    }
    i64 number = 0;
    if (member.kind == Kind::kText) {
      json.member(member.key, given);
      continue;
    }
    const bool read = parse_number(given, number) || (member.kind == Kind::kBytes && parse_bytes(given, number));
    if (!read) return Fault::text_of("invalid value for ", member.flag, ": ", given);
    json.member(member.key, number);
  }
  if (!section.empty()) json.end_object();
  json.end_object();
  return text;
}

}  // namespace caisson::oci
