#include "core/project_quota.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/path.h"

namespace caisson {
namespace {

// linux/fs.h
constexpr unsigned long kGetXattr = 0x801c581f;  // FS_IOC_FSGETXATTR
constexpr unsigned long kSetXattr = 0x401c5820;  // FS_IOC_FSSETXATTR
constexpr u32 kProjectInherit = 0x200;           // FS_XFLAG_PROJINHERIT
struct FsXattr {
  u32 flags = 0;
  u32 extent_size = 0;
  u32 extents = 0;
  u32 project = 0;
  u32 cow_extent_size = 0;
  u8 pad[8] = {};
};
static_assert(sizeof(FsXattr) == 28);

// linux/quota.h
constexpr long kSysQuotactlFd = 443;
constexpr u32 kProjectQuota = 2;  // PRJQUOTA
constexpr u32 kGetQuota = (0x800007u << 8) | kProjectQuota;
constexpr u32 kSetQuota = (0x800008u << 8) | kProjectQuota;
constexpr u32 kBlockLimits = 1;  // QIF_BLIMITS
struct Quota {
  u64 block_hard = 0;  // KiB
  u64 block_soft = 0;
  u64 bytes = 0;
  u64 inode_hard = 0;
  u64 inode_soft = 0;
  u64 inodes = 0;
  u64 block_time = 0;
  u64 inode_time = 0;
  u32 valid = 0;
};
static_assert(sizeof(Quota) == 72);

// Ids of ours are in the upper half of what is not negative, where people's /etc/projid does not reach.
constexpr u32 kFirst = 0x40000000;
constexpr int kTries = 64;

bool unsupported(int err) {
  return err == ENOTTY || err == EOPNOTSUPP || err == ESRCH || err == ENOSYS || err == EINVAL || err == ENOENT;
}

int quotactl(int fd, u32 command, u32 id, Quota& quota) {
  return static_cast<int>(syscall(kSysQuotactlFd, fd, command, id, &quota));
}

// Sockets and O_PATH descriptors take no ioctl(2).
Result<Fd> readable(int dir) { return open_at2(dir, ".", O_RDONLY | O_DIRECTORY, 0, 0); }

Result<u32> project_of(int fd) {
  FsXattr xattr;
  if (ioctl(fd, static_cast<int>(kGetXattr), &xattr) != 0) {
    if (unsupported(errno)) return u32{0};
    return Error::last("ioctl(FS_IOC_FSGETXATTR)");
  }
  return xattr.project;
}

// One that nothing belongs to and that has no limit.
Result<u32> free_project(int fd) {
  for (int i = 0; i < kTries; ++i) {
    u32 id = 0;
    if (getrandom(&id, sizeof id, 0) != sizeof id) return Error::last("getrandom");
    id = kFirst | (id & (kFirst - 1));
    Quota quota;
    if (quotactl(fd, kGetQuota, id, quota) != 0) {
      if (errno == ENOENT) return id;  // xfs: nobody has used it
      if (unsupported(errno)) return Error(ENOTSUP, "quotactl_fd", "the file system keeps no project quotas");
      return Error::last("quotactl_fd");
    }
    if (quota.bytes == 0 && quota.inodes == 0 && quota.block_hard == 0) return id;
  }
  return Error(EBUSY, "quotactl_fd", "no free project id");
}

Status set_limit(int fd, u32 id, u64 bytes) {
  Quota quota;
  quota.block_hard = bytes / 1024 + (bytes % 1024 != 0 ? 1 : 0);
  quota.valid = kBlockLimits;
  if (quotactl(fd, kSetQuota, id, quota) == 0) return ok();
  if (unsupported(errno)) return Error(ENOTSUP, "quotactl_fd", "the file system enforces no project quotas");
  return Error::last("quotactl_fd");
}

}  // namespace

Status limit_project(int dir, u64 bytes) {
  Fd fd = CAISSON_TRY(readable(dir));
  const u32 id = CAISSON_TRY(free_project(fd.get()));
  FsXattr xattr;
  if (ioctl(fd.get(), static_cast<int>(kGetXattr), &xattr) != 0) return Error::last("ioctl(FS_IOC_FSGETXATTR)");
  xattr.flags |= kProjectInherit;
  xattr.project = id;
  if (ioctl(fd.get(), static_cast<int>(kSetXattr), &xattr) != 0) {
    if (unsupported(errno)) return Error(ENOTSUP, "ioctl(FS_IOC_FSSETXATTR)", "the file system has no projects");
    return Error::last("ioctl(FS_IOC_FSSETXATTR)");
  }
  return set_limit(fd.get(), id, bytes);
}

Result<ProjectUsage> project_usage(int dir) {
  Fd fd = CAISSON_TRY(readable(dir));
  const u32 id = CAISSON_TRY(project_of(fd.get()));
  if (id < kFirst) return Error(ENODATA, "ioctl(FS_IOC_FSGETXATTR)", "no project of ours");
  Quota quota;
  if (quotactl(fd.get(), kGetQuota, id, quota) != 0) {
    if (unsupported(errno)) return Error(ENODATA, "quotactl_fd", "project quotas are off");
    return Error::last("quotactl_fd");
  }
  return ProjectUsage{quota.bytes, quota.inodes};
}

Status release_project(int parent, const char* name) {
  Result<Fd> fd = open_at2(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0);
  if (!fd && fd.error().err == ENOENT) return ok();
  if (!fd) return fd.error();
  const u32 id = CAISSON_TRY(project_of(fd->get()));
  if (id < kFirst) return ok();
  Status released = set_limit(fd->get(), id, 0);
  if (!released && released.error().err == ENOTSUP) return ok();
  return released;
}

}  // namespace caisson
