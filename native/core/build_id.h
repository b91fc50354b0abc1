// The identity of this build of the native half: 16 hex digits over its sources. Plans and the private part of the
// monitor's protocol are understood only between programs of one build.
#pragma once

#include "core/base.h"

namespace caisson {

string_view build_id();

}  // namespace caisson
