#include "core/features.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/mount_fd.h"
#include "core/sys.h"

namespace caisson {
namespace {

constexpr long kSysStatmount = 457;
constexpr long kSysListmount = 458;
constexpr long kSysOpenTreeAttr = 467;

// A call with null arguments: EFAULT, EINVAL and the like come from the call itself.
bool known(long number) {
  errno = 0;
  syscall(number, 0, 0, 0, 0, 0);
  return errno != ENOSYS;
}

bool at_least_6_1(const char* release) {
  int major = 0;
  int minor = 0;
  for (; *release >= '0' && *release <= '9' && major < 1000; ++release) major = major * 10 + (*release - '0');
  if (*release == '.') ++release;
  for (; *release >= '0' && *release <= '9' && minor < 10000; ++release) minor = minor * 10 + (*release - '0');
  return major > 6 || (major == 6 && minor >= 1);
}

bool memfd_exec() {
  constexpr unsigned kMfdExec = 0x10;
  Fd fd(static_cast<int>(syscall(SYS_memfd_create, "probe", kMfdExec | uapi::kMfdCloexec)));
  return static_cast<bool>(fd);
}

bool pidfd_thread() {
  constexpr unsigned kPidfdThread = 0200;  // O_EXCL
  Fd fd(sys::pidfd_open(getpid(), kPidfdThread));
  return static_cast<bool>(fd);
}

bool pidfd_info() {
  Fd fd(sys::pidfd_open(getpid()));
  struct {
    u64 mask;
    u8 rest[56];
  } info{};
  constexpr unsigned long kPidfdGetInfo = 0xc040ff0b;  // _IOWR(0xff, 11, 64 bytes: PIDFD_INFO_SIZE_VER0)
  return fd && ioctl(fd.get(), kPidfdGetInfo, &info) == 0;
}

bool overlay_append() {
  auto context = fs_open("overlay");
  return context && fs_config_string(context->get(), "lowerdir+", "/");
}

bool detached_clone() {
  auto tree = open_tree(AT_FDCWD, "/", uapi::kOpenTreeClone);
  return tree && open_tree(tree->get(), "", uapi::kOpenTreeClone | uapi::kAtEmptyPath);
}

}  // namespace

Result<HostFeatures> detect_features() {
  struct utsname name {};
  if (uname(&name) != 0) return Error::last("uname");
  HostFeatures found;
  memcpy(found.kernel, name.release,
         sizeof name.release < sizeof found.kernel ? sizeof name.release : sizeof found.kernel - 1);
  const HostFeature features[HostFeatures::kCount] = {
      {"kernel-6.1", at_least_6_1(found.kernel)},
      {"memfd-exec", memfd_exec()},
      {"overlay-lowerdir-append", overlay_append()},
      {"statmount", known(kSysStatmount)},
      {"listmount", known(kSysListmount)},
      {"pidfd-thread", pidfd_thread()},
      {"pidfd-info", pidfd_info()},
      {"detached-mount-clone", detached_clone()},
      {"open-tree-attr", known(kSysOpenTreeAttr)},
  };
  memcpy(found.features, features, sizeof features);
  return found;
}

}  // namespace caisson
