#include "core/rlimits.h"

#include "core/sys.h"

namespace caisson {

namespace {

constexpr char kNames[][18] = {
    "RLIMIT_CPU",      "RLIMIT_FSIZE",  "RLIMIT_DATA",    "RLIMIT_STACK",  "RLIMIT_CORE",  "RLIMIT_RSS",
    "RLIMIT_NPROC",    "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS",     "RLIMIT_LOCKS", "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE", "RLIMIT_NICE",   "RLIMIT_RTPRIO",  "RLIMIT_RTTIME",
};
static_assert(sizeof kNames / sizeof kNames[0] == kRlimitCount);

}  // namespace

int rlimit_number(string_view name) {
  for (u32 n = 0; n < kRlimitCount; ++n)
    if (name == kNames[n]) return static_cast<int>(n);
  return -1;
}

string_view rlimit_name(u32 resource) {
  return resource < kRlimitCount ? string_view(kNames[resource]) : string_view();
}

Result<Vec<Rlimit>> parse_rlimits(const JsonValue& rlimits, string_view what) {
  Vec<Rlimit> out;
  if (!rlimits.present()) return out;
  String object(what);
  if (!rlimits.is_array()) return Error(EINVAL, "parse", object.append(": must be an array"));
  u32 seen = 0;
  for (u32 i = 0; i < rlimits.size(); ++i) {
    const JsonValue& entry = rlimits.at(i);
    object.clear();
    object.append(what).append('[').append_u64(i).append(']');
    const string_view type = entry["type"].string_or({});
    const int number = rlimit_number(type);
    if (number < 0) return Error(EINVAL, "parse", object.append(": unknown resource limit ").append(type));
    if ((seen >> number & 1) != 0) return Error(EINVAL, "parse", object.append(": duplicate ").append(type));
    seen |= 1u << number;
    const u64 soft = CAISSON_TRY(entry["soft"].u64_value(String(object.view()).append(".soft")));
    const u64 hard = CAISSON_TRY(entry["hard"].u64_value(String(object.view()).append(".hard")));
    if (soft > hard) return Error(EINVAL, "parse", object.append(": soft is above hard"));
    out.push({static_cast<u32>(number), soft, hard});
  }
  return out;
}

Result<Rlimit> read_rlimit(int pid, u32 resource) {
  uapi::Rlimit64 limit = {};
  if (sys::prlimit64(pid, resource, nullptr, &limit) != 0) return Error::last("prlimit", rlimit_name(resource));
  return Rlimit{resource, limit.soft, limit.hard};
}

}  // namespace caisson
