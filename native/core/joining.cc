// What has to be known of a container's process by whoever joins its namespaces.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/birth_parts.h"

namespace caisson {

String proc_file(int pid, string_view name) {
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(pid)).append('/').append(name);
  return path;
}

Result<int> pid_of(int pidfd) {
  String path(string_view("/proc/self/fdinfo/"));
  path.append_u64(static_cast<u64>(pidfd));
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", path);
  char text[512];
  ssize_t n = read(fd.get(), text, sizeof text);
  if (n < 0) return Error::last("read", path);
  string_view all(text, static_cast<size_t>(n));
  size_t at = all.find("\nPid:\t");
  if (at == all.npos) return Error(EINVAL, "pidfd", path);
  int pid = 0;
  for (at += 6; at < all.size() && all[at] >= '0' && all[at] <= '9'; ++at) pid = pid * 10 + (all[at] - '0');
  if (pid <= 0) return Error(ESRCH, "pidfd", "container");
  return pid;
}

// setns(2) refuses the user namespace one is in, so only those that differ are joined.
Result<u64> differing_namespaces(int pid) {
  constexpr struct {
    const char* file;
    u64 flag;
  } kFiles[] = {{"ns/user", uapi::kCloneNewuser}, {"ns/mnt", uapi::kCloneNewns},  {"ns/net", uapi::kCloneNewnet},
                {"ns/ipc", uapi::kCloneNewipc},   {"ns/uts", uapi::kCloneNewuts}, {"ns/cgroup", uapi::kCloneNewcgroup},
                {"ns/time", uapi::kCloneNewtime}, {"ns/pid", uapi::kCloneNewpid}};
  u64 flags = 0;
  for (auto each : kFiles) {
    struct stat theirs = {};
    struct stat ours = {};
    String path = proc_file(pid, each.file);
    String own(string_view("/proc/self/"));
    own.append(each.file);
    if (stat(own.c_str(), &ours) != 0) {
      if (errno == ENOENT && each.flag == uapi::kCloneNewtime) continue;  // a kernel without CONFIG_TIME_NS
      return Error::last("stat", own);
    }
    if (stat(path.c_str(), &theirs) != 0) return Error(errno == ENOENT ? ESRCH : errno, "stat", path);
    if (theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev) flags |= each.flag;
  }
  return flags;
}

}  // namespace caisson
