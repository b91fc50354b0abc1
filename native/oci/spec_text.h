// The text of `spec`.
#pragma once

#include "core/text.h"

namespace caisson::oci {

// `uid` and `gid` become the root of a rootless container.
String default_spec(bool rootless, u32 uid, u32 gid);

}  // namespace caisson::oci
