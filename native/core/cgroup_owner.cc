#include <fcntl.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/path.h"
#include "core/words.h"

namespace caisson {
namespace {

// What kernels before 4.15, which have no list, delegate.
constexpr string_view kDelegated = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

Result<string_view> read_file(const char* path, span<char> out) {
  Fd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return Error::last("open", path);
  return read_small(file.get(), out, path);
}

}  // namespace

Result<String> cgroup_path_of(int pid) {
  String path("/proc/");
  if (pid == 0)
    path.append("self");
  else
    path.append_u64(static_cast<u64>(pid));
  path.append("/cgroup");
  char text[16 * 1024];  // one line for each hierarchy, each with a path of at most 4096 bytes
  string_view rest = CAISSON_TRY(read_file(path.c_str(), text));
  while (!rest.empty()) {
    const string_view line = take_until(rest, '\n');
    if (line.starts_with("0::/")) return String(part(line, 3));
  }
  return Error(ENODEV, "read", path);
}

Status cgroup_set_owner(int cgroup, u32 uid) {
  char text[4096];
  auto listed = read_file("/sys/kernel/cgroup/delegate", text);
  if (!listed && listed.error().err != ENOENT) return listed.error();
  string_view rest = listed ? *listed : kDelegated;
  if (fchown(cgroup, uid, ~gid_t{0}) != 0) return Error::last("fchown", "cgroup");
  while (!rest.empty()) {
    const String name(take_until(rest, '\n'));
    if (!is_file_name(name)) continue;
    // Not every controller is enabled here.
    if (fchownat(cgroup, name.c_str(), uid, ~gid_t{0}, AT_SYMLINK_NOFOLLOW) != 0 && errno != ENOENT)
      return Error::last("fchownat", name);
  }
  return ok();
}

}  // namespace caisson
