// Sysctls, host name and loopback of the namespaces that a pod or container owns.
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "core/stage/stage.h"

namespace caisson {

// Who may write what, the same on 6.1, 6.12 and 6.18: in a user namespace net.* and the names want a writer whose uid
// is not yet switched or is 0 outside, kernel.shm*, kernel.sem and fs.mqueue.* one whose uid is 0 inside
// (ipc_permissions()).
bool sysctl_belongs(string_view key, SysctlWriter writer) {
  bool foreign = key.starts_with("net/") || key == "kernel/hostname" || key == "kernel/domainname";
  return writer == SysctlWriter::kAny || (writer == SysctlWriter::kForeignUid) == foreign;
}

// `proc` is the seed's procfs: CVE-2019-16884, CVE-2025-52881 redirected such writes through a false one.
int write_sysctl(int proc, const char* key, string_view value) {
  char path[256] = "sys/";
  size_t length = strlen(key);
  if (length >= sizeof path - 4) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(path + 4, key, length + 1);
  constexpr u64 kStrict = uapi::kResolveBeneath | uapi::kResolveNoSymlinks | uapi::kResolveNoXdev;
  int fd = sys::openat2(proc, path, O_WRONLY, 0, kStrict);
  if (fd < 0) return -1;
  ssize_t n = write(fd, value.data(), value.size());
  int err = n < 0 ? errno : EIO;
  close(fd);
  if (n == static_cast<ssize_t>(value.size())) return 0;
  errno = err;
  return -1;
}

void write_sysctls(Stage& s, SysctlWriter writer) {
  span<const SysctlEntry> entries = s.plan->sysctls();
  int proc = -1;
  for (u32 i = 0; i < entries.size(); ++i) {
    if (!sysctl_belongs(s.plan->text(entries[i].key), writer)) continue;
    s.at(Step::kSysctl, i);
    if (proc < 0) {
      // The seed's own, which nothing of an image has touched.
      proc = s.check(open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      struct statfs fs = {};
      s.check(fstatfs(proc, &fs));
      if (static_cast<u64>(fs.f_type) != uapi::kProcSuperMagic) s.fail(EXDEV);
    }
    s.check(write_sysctl(proc, s.plan->c_str(entries[i].key), s.plan->text(entries[i].value)));
  }
  if (proc >= 0) close(proc);
}

void set_names(Stage& s) {
  const PlanHeader& head = s.plan->head();
  s.at(Step::kHostname);
  if (head.hostname.length != 0) s.check(sethostname(s.plan->c_str(head.hostname), head.hostname.length));
  if (head.domainname.length != 0) s.check(setdomainname(s.plan->c_str(head.domainname), head.domainname.length));
}

int raise_loopback(int socket) {
  if (socket < 0) return -1;
  ifreq request = {};
  memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP;  // IFF_LOOPBACK is not the caller's to change
  return ioctl(socket, SIOCSIFFLAGS, &request);
}

}  // namespace caisson
