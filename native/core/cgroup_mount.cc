#include <fcntl.h>
#include <sys/stat.h>
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

Result<CgroupMount> open_cgroup_root() {
  constexpr u64 kRootInode = 1;  // of the hierarchy itself: a part of it that is bound there has another
  for (const string_view path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    CgroupMount found;
    found.dir.reset(openat(AT_FDCWD, path.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct statfs fs {};
    if (!found.dir || fstatfs(found.dir.get(), &fs) != 0) continue;
    if (static_cast<u64>(fs.f_type) != uapi::kCgroup2SuperMagic) continue;
    struct stat st {};
    if (fstat(found.dir.get(), &st) != 0 || st.st_ino != kRootInode) continue;
    found.path.append(path);
    found.hybrid = path.size() > sizeof "/sys/fs/cgroup";
    return found;
  }
  return find_cgroup_mount();
}

}  // namespace caisson
