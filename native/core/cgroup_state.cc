#include "core/cgroup.h"
#include "core/cgroup_update.h"
#include "core/words.h"

namespace caisson {
namespace {

// The number that a text begins with; `fallback` for "max" and for none.
template <typename T>
T number_or(string_view text, T fallback) {
  u64 number = 0;
  return take_number(text, number) && number <= INT64_MAX ? static_cast<T>(number) : fallback;
}

// "" where the controller is not enabled.
Result<string_view> read_or_empty(int cgroup, const char* file, span<char> out) {
  auto text = cgroup_read(cgroup, file, out);
  if (!text && text.error().err == ENOENT) return string_view();
  return text;
}

}  // namespace

Result<CgroupState> read_cgroup_state(int cgroup) {
  char text[1024];
  CgroupState state;
  state.controllers = String(CAISSON_TRY(cgroup_read(cgroup, "cgroup.controllers", text)));
  const string_view bandwidth = CAISSON_TRY(read_or_empty(cgroup, "cpu.max", text));
  state.cpu_quota = number_or<i64>(bandwidth, -1);
  const size_t blank = bandwidth.find(' ');
  if (blank != bandwidth.npos) state.cpu_period = number_or<u64>(part(bandwidth, blank + 1), state.cpu_period);
  state.memory_max = number_or<i64>(CAISSON_TRY(read_or_empty(cgroup, "memory.max", text)), -1);
  state.memory_current = number_or<u64>(CAISSON_TRY(read_or_empty(cgroup, "memory.current", text)), 0);
  state.swap_current = number_or<u64>(CAISSON_TRY(read_or_empty(cgroup, "memory.swap.current", text)), 0);
  return state;
}

}  // namespace caisson
