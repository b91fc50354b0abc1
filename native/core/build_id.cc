#include "core/build_id.h"

namespace caisson {

string_view build_id() {
  return
#include "core/build_id.inc"
      ;
}

}  // namespace caisson
