// linux.resources.blockIO: weights and rates of block devices, which cgroup v2 calls io.
#include "core/compile/cgroup_values.h"
#include "core/compile/limits.h"

namespace caisson::compile {

namespace {

constexpr u64 kMajorMax = 0xfff;
constexpr u64 kMinorMax = 0xfffff;

// "8:0", from an entry with major and minor
Result<String> device_of(const Property& entry) {
  CAISSON_TRY(entry.object());
  String device;
  device.append_u64(CAISSON_TRY(entry["major"].natural(kMajorMax))).append(':');
  device.append_u64(CAISSON_TRY(entry["minor"].natural(kMinorMax)));
  return device;
}

// The BFQ scheduler takes the weights of v1 as they are; io.weight belongs to the iocost controller. The second write
// is for hosts whose kernel lacks the file of the first.
Status put_weight(LimitWriter& out, string_view device, u64 weight) {
  String bfq, io;
  for (String* value : {&bfq, &io})
    if (!device.empty()) value->append(device).append(' ');
  out.put("io.bfq.weight", bfq.append_u64(weight), kCgroupIgnoreMissing);
  out.put("io.weight", io.append_u64(io_weight(weight)), kCgroupIfPreviousMissing);
  return ok();
}

Status compile_weights(LimitWriter& out, const Property& io) {
  auto weight_of = [](const Property& weight) -> Result<u64> {
    if (!weight.present()) return u64{0};
    const u64 value = CAISSON_TRY(weight.natural(1000));
    if (value != 0 && value < 10) return weight.invalid(weight.value().number_text(), "is not from 10 to 1000");
    return value;
  };
  if (const u64 weight = CAISSON_TRY(weight_of(io["weight"]));
      weight != 0 && CAISSON_TRY(out.allowed(io["weight"], "io")))
    CAISSON_TRY(put_weight(out, {}, weight));
  if (CAISSON_TRY(weight_of(io["leafWeight"])) != 0)
    return io["leafWeight"].error(ENOTSUP, "cgroup v2 has no leaf weight");
  const Property devices = io["weightDevice"];
  const u32 count = CAISSON_TRY(devices.list(kLimitEntriesMax));
  for (u32 i = 0; i < count; ++i) {
    const Property entry = devices.at(i);
    const String device = CAISSON_TRY(device_of(entry));
    if (CAISSON_TRY(weight_of(entry["leafWeight"])) != 0)
      return entry["leafWeight"].error(ENOTSUP, "cgroup v2 has no leaf weight");
    const u64 weight = CAISSON_TRY(weight_of(entry["weight"]));
    if (weight != 0 && CAISSON_TRY(out.allowed(entry["weight"], "io"))) CAISSON_TRY(put_weight(out, device, weight));
  }
  return ok();
}

}  // namespace

Status compile_io(LimitWriter& out, const Property& io) {
  struct Throttle {
    string_view key;
    string_view word;
  };
  static constexpr Throttle kThrottles[] = {
      {"throttleReadBpsDevice", "rbps"},
      {"throttleWriteBpsDevice", "wbps"},
      {"throttleReadIOPSDevice", "riops"},
      {"throttleWriteIOPSDevice", "wiops"},
  };
  CAISSON_TRY(compile_weights(out, io));
  for (const Throttle& throttle : kThrottles) {
    const Property list = io[throttle.key];
    const u32 count = CAISSON_TRY(list.list(kLimitEntriesMax));
    for (u32 i = 0; i < count; ++i) {
      const Property entry = list.at(i);
      String value = CAISSON_TRY(device_of(entry));
      const u64 rate = CAISSON_TRY(entry["rate"].natural(UINT64_MAX));
      value.append(' ').append(throttle.word).append('=');
      if (rate == 0)
        value.append("max");  // v1's way to lift the limit; v2 refuses 0
      else
        value.append_u64(rate);
      if (CAISSON_TRY(out.allowed(entry, "io"))) out.put("io.max", value);
    }
  }
  return ok();
}

}  // namespace caisson::compile
