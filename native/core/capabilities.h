// capabilities(7): names and sets. Bit n of a set is capability n of <linux/capability.h>.
#pragma once

#include "core/base.h"
#include "core/json.h"
#include "core/result.h"

namespace caisson {

inline constexpr u32 kCapabilityCount = 41;  // CAP_CHOWN 0 .. CAP_CHECKPOINT_RESTORE 40 (5.9); none was added since
inline constexpr u64 kAllCapabilities = (u64{1} << kCapabilityCount) - 1;

// "CAP_NET_ADMIN" -> 12; -1 for an unknown name. The OCI spec's form only: upper case, with the prefix.
int capability_number(string_view name);

// 12 -> "CAP_NET_ADMIN"; empty out of range.
string_view capability_name(u32 number);

// An array of names as a set; absent is the empty set. Errors EINVAL: "<what>[2]: unknown capability CAP_X".
Result<u64> parse_capabilities(const JsonValue& names, string_view what);

}  // namespace caisson
