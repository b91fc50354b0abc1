// The text of `features`.
#pragma once

#include "core/base.h"

namespace caisson::oci {

string_view features_text();

}  // namespace caisson::oci
