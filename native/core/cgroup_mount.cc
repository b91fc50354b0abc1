#include <fcntl.h>
#include <sys/statfs.h>

#include "core/cgroup.h"
#include "core/mountinfo.h"
#include "core/uapi.h"

namespace caisson {

Result<CgroupMount> find_cgroup_mount() {
  MountinfoReader reader = CAISSON_TRY(MountinfoReader::open());
  CgroupMount found;
  for (;;) {
    const MountLine mount = CAISSON_TRY(reader.next());
    if (mount.type.empty()) break;
    if (mount.type == "cgroup") found.hybrid = true;
    if (mount.type != "cgroup2" || found.dir || mount.root != "/") continue;
    String path = unescape_mount(mount.path);
    Fd dir(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct statfs fs {};
    // Another mount may lie over this one.
    if (!dir || fstatfs(dir.get(), &fs) != 0 || static_cast<u64>(fs.f_type) != uapi::kCgroup2SuperMagic) continue;
    found.dir = static_cast<Fd&&>(dir);
    found.path = static_cast<String&&>(path);
  }
  if (!found.dir) return Error(ENODEV, "mountinfo", "cgroup2: no mount of cgroup v2 in /proc/self/mountinfo");
  return found;
}

}  // namespace caisson
