// The container's own part of the cgroup tree, for a mount of it where there is no cgroup namespace that would end it
// there (CVE-2023-25809).
#include <sys/vfs.h>

#include "core/stage/stage.h"
#include "core/stage/users.h"

namespace caisson {

namespace {

constexpr unsigned kClone = uapi::kOpenTreeClone;

// A descriptor that was opened in another mount namespace cannot be cloned in this one: the same directory, by its
// path.
int clone_by_path(Stage& s) {
  char link[32] = "/proc/self/fd/";
  size_t end = strlen(link);
  for (int rest = s.cgroup; rest > 9; rest /= 10) ++end;
  for (int rest = s.cgroup; link[end] == 0; rest /= 10) link[end--] = static_cast<char>('0' + rest % 10);
  char path[kPlanPathMax + 1] = {};
  s.check(static_cast<int>(readlink(link, path, sizeof path - 1)));
  int fd = s.check(sys::open_tree(AT_FDCWD, path, kClone));
  struct stat wanted = {};
  struct stat found = {};
  s.check(fstat(s.cgroup, &wanted));
  s.check(fstat(fd, &found));
  if (wanted.st_dev != found.st_dev || wanted.st_ino != found.st_ino) s.fail(ESTALE);
  return fd;
}

// Nobody made a cgroup for the container: the one it was born in.
int clone_inherited(Stage& s) {
  int file = s.check(open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC));
  LineReader reader(file);
  string_view line;
  int directory = -1;
  while (directory < 0 && reader.next(line)) {
    if (!line.starts_with("0::/")) continue;
    char path[kPlanPathMax + 1] = "/sys/fs/cgroup";
    size_t n = strlen(path);
    string_view own = part(line, 3);
    if (own.size() >= sizeof path - n) s.fail(ENAMETOOLONG);
    memcpy(path + n, own.data(), own.size());
    directory = s.check(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  close(file);
  struct statfs fs = {};
  if (directory < 0 || fstatfs(directory, &fs) != 0 || static_cast<u64>(fs.f_type) != uapi::kCgroup2SuperMagic)
    s.fail(ENOENT);
  int fd = s.check(sys::open_tree(directory, "", kClone | unsigned{uapi::kAtEmptyPath}));
  close(directory);
  return fd;
}

}  // namespace

int clone_own_cgroup(Stage& s) {
  if (s.cgroup < 0) return clone_inherited(s);
  int fd = sys::open_tree(s.cgroup, "", kClone | unsigned{uapi::kAtEmptyPath});
  return fd < 0 && errno == EINVAL ? clone_by_path(s) : s.check(fd);
}

}  // namespace caisson
