// tmpcopyup: a new tmpfs begins with what the root file system holds at its mount point.
#include <sys/sendfile.h>

#include "core/directory.h"
#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr int kDepthMax = 64;

int copy_file(int from, const char* name, int to) {
  int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (in < 0) return -1;
  struct stat st = {};
  if (fstat(in, &st) != 0 || !S_ISREG(st.st_mode)) {
    // swapped by whoever else has the tree: a device might have no end
    close(in);
    errno = ESTALE;
    return -1;
  }
  int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  int result = out < 0 ? -1 : 0;
  for (ssize_t n = 1; result == 0 && n > 0;) {
    n = sendfile(out, in, nullptr, 1u << 20);
    if (n < 0) result = -1;
  }
  if (result == 0) result = fchown(out, st.st_uid, st.st_gid);
  if (result == 0) result = fchmod(out, st.st_mode & 07777);
  int err = errno;
  if (out >= 0) close(out);
  close(in);
  errno = err;
  return result;
}

int copy_entry(int from, const char* name, int to, int depth) {
  struct stat st = {};
  if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return -1;
  if (S_ISREG(st.st_mode)) return copy_file(from, name, to);
  if (S_ISLNK(st.st_mode)) {
    char target[kPlanPathMax + 1];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);
    if (n < 0) return -1;
    target[n] = '\0';
    if (symlinkat(target, to, name) != 0) return -1;
    return fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
  }
  if (S_ISDIR(st.st_mode)) {
    if (mkdirat(to, name, 0700) != 0) return -1;
    int in = openat(from, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0) return -1;
    int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int result = out < 0 ? -1 : copy_tree(in, out, depth + 1);
    int err = errno;
    if (out >= 0) close(out);
    close(in);
    errno = err;
    return result;
  }
  if (mknodat(to, name, st.st_mode, st.st_rdev) != 0) return -1;
  return fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
}

}  // namespace

int copy_tree(int from, int to, int depth) {
  if (depth > kDepthMax) {
    errno = ELOOP;
    return -1;
  }
  int directory = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -1;
  // The descriptor of a detached mount is O_PATH, which takes no fchown.
  int own = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct stat st = {};
  int result = own < 0 ? -1 : fstat(directory, &st);
  DirectoryReader reader(directory);
  while (result == 0) {
    auto entry = reader.next();
    if (!entry) {
      errno = entry.error().err;
      result = -1;
      break;
    }
    if (entry->name == nullptr) break;
    result = copy_entry(directory, entry->name, own, depth);
  }
  if (result == 0) result = fchown(own, st.st_uid, st.st_gid);
  if (result == 0) result = fchmod(own, st.st_mode & 07777);
  int err = errno;
  if (own >= 0) close(own);
  close(directory);
  errno = err;
  return result;
}

}  // namespace caisson
