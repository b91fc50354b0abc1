// SELinux labels of volumes (selinux(8)): a volume gets the label of its container, whole, with all that is mounted in
// it.
#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>

#include "core/directory.h"
#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr char kAttribute[] = "security.selinux";
constexpr int kDepthMax = 512;  // 4 KiB of stack and a descriptor each

// What SELinux says of the host itself: other programs would lose it (the list of go-selinux, and with it of other
// runtimes).
constexpr string_view kOfTheHost[] = {
    "/",     "/bin", "/boot",  "/dev",   "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow",
    "/home", "/lib", "/lib64", "/media", "/opt", "/proc",       "/root",    "/run",
    "/sbin", "/srv", "/sys",   "/tmp",   "/usr", "/var",        "/var/lib", "/var/log",
};

bool has_label(const char* value, ssize_t size, string_view label) {
  return size > 0 && string_view(value, strnlen(value, static_cast<size_t>(size))) == label;
}

// Gone meanwhile, or of a file system that keeps no labels, which has one label for all of it.
bool is_excused(int err) { return err == ENOENT || err == EOPNOTSUPP; }

// An entry of the working directory: whatever it is by now, no link is followed.
int label_entry(const char* name, string_view label) {
  char now[kPlanPathMax + 1];
  if (has_label(now, lgetxattr(name, kAttribute, now, sizeof now), label)) return 0;
  if (lsetxattr(name, kAttribute, label.data(), label.size() + 1, 0) == 0 || is_excused(errno)) return 0;
  return -1;
}

int label_below(int directory, string_view label, int depth) {
  if (depth > kDepthMax) {
    errno = ELOOP;
    return -1;
  }
  if (fchdir(directory) != 0) return -1;
  DirectoryReader reader(directory);
  for (;;) {
    auto entry = reader.next();
    if (!entry) {
      errno = entry.error().err;
      return -1;
    }
    if (entry->name == nullptr) return 0;
    if (label_entry(entry->name, label) != 0) return -1;
    if (entry->type != DT_DIR && entry->type != DT_UNKNOWN) continue;
    const int inner = open(entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) continue;  // no directory, or no longer
    if (inner < 0) return -1;
    const int result = label_below(inner, label, depth + 1);
    const int err = errno;
    close(inner);
    errno = err;
    if (result != 0 || fchdir(directory) != 0) return -1;
  }
}

struct ProcPath {
  char text[40] = "/proc/self/fd/";
  explicit ProcPath(int fd) {
    char digits[12];
    size_t n = 0;
    do digits[n++] = static_cast<char>('0' + fd % 10);
    while ((fd /= 10) != 0);
    size_t at = strlen(text);
    while (n != 0) text[at++] = digits[--n];
  }
};

}  // namespace

bool is_of_host(int fd) {
  char path[kPlanPathMax + 1];
  const ssize_t n = readlink(ProcPath(fd).text, path, sizeof path);
  if (n <= 0) return true;
  for (const string_view each : kOfTheHost)
    if (string_view(path, static_cast<size_t>(n)) == each) return true;
  return false;
}

int relabel_tree(int fd, string_view label) {
  const ProcPath self(fd);
  char now[kPlanPathMax + 1];
  if (!has_label(now, getxattr(self.text, kAttribute, now, sizeof now), label) &&
      setxattr(self.text, kAttribute, label.data(), label.size() + 1, 0) != 0)
    return is_excused(errno) ? 0 : -1;
  const int directory = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return errno == ENOTDIR ? 0 : -1;
  const int result = label_below(directory, label, 0);
  const int err = errno;
  close(directory);
  if (chdir("/") != 0) return -1;
  errno = err;
  return result;
}

}  // namespace caisson
