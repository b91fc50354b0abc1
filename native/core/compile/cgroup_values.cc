#include "core/compile/cgroup_values.h"

#include <math.h>

namespace caisson::compile {

u64 cpu_weight(u64 shares) {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const double l = log2(static_cast<double>(shares));
  return static_cast<u64>(ceil(pow(10, (l * l + 125 * l) / 612 - 7.0 / 34)));
}

u64 io_weight(u64 weight) { return 1 + (weight - 10) * 9999 / 990; }

}  // namespace caisson::compile
