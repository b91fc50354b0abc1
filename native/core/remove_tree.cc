#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/directory.h"
#include "core/path.h"

namespace caisson {
namespace {

// Levels walked with one descriptor each. Below them a directory is renamed into the top of the tree and removed from
// there, so that a hostile depth (mkdir in a loop) costs neither descriptors nor stack.
constexpr u32 kLevels = 24;
// A directory that somebody fills while we empty it is given up after so many passes.
constexpr u32 kPasses = 16;

class TreeRemover {
 public:
  explicit TreeRemover(int top) : top_(top) {}

  Status empty(int dir, u32 level) {
    for (u32 pass = 0; pass < kPasses; ++pass) {
      u64 hoisted = hoisted_;
      DirectoryReader reader(dir);
      CAISSON_TRY(reader.rewind());
      bool any = false;
      for (;;) {
        DirectoryReader::Entry entry = CAISSON_TRY(reader.next());
        if (entry.name == nullptr) break;
        any = true;
        CAISSON_TRY(remove(dir, entry.name, level));
      }
      // Entries may be passed over when others are removed during the scan: only an empty pass ends it.
      if (!any) return ok();
      if (hoisted_ != hoisted) pass = 0;  // our own doing
    }
    return Error(ENOTEMPTY, "unlinkat", "the directory is being filled while it is removed");
  }

  Status remove(int parent, const char* name, u32 level) {
    // A directory gives EISDIR (unlink(2) on Linux; EPERM on file systems that follow POSIX, or an immutable file).
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return ok();
    if (errno != EISDIR && errno != EPERM) return Error::last("unlinkat", name);
    int refused = errno;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return ok();
    if (errno == ENOTDIR) return Error(refused, "unlinkat", name);
    if (errno != ENOTEMPTY && errno != EEXIST) return Error::last("unlinkat", name);
    if (level >= kLevels) return hoist(parent, name);
    // EXDEV: a mount lies over it; what is mounted there is not ours to remove
    Result<Fd> dir = open_at2(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow);
    if (!dir && dir.error().err == ENOENT) return ok();
    if (!dir) return dir.error();
    CAISSON_TRY(empty(dir->get(), level + 1));
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return ok();
    return Error::last("unlinkat", name);
  }

 private:
  // Moves a deep directory up to the top, where a later pass finds it.
  Status hoist(int parent, const char* name) {
    for (;;) {
      char fresh[32] = ".deep-";
      u64 n = hoisted_++;
      for (size_t i = 6; i < 22; ++i, n >>= 4) fresh[i] = "0123456789abcdef"[n & 15];
      struct stat found {};
      if (fstatat(top_, fresh, &found, AT_SYMLINK_NOFOLLOW) == 0) continue;
      if (renameat(parent, name, top_, fresh) == 0 || errno == ENOENT) return ok();
      if (errno == ENOTEMPTY || errno == EEXIST) continue;  // another remover took the name in between
      return Error::last("renameat", name);
    }
  }

  int top_;
  u64 hoisted_ = 0;
};

}  // namespace

Status remove_tree_at(int dir, const char* name) {
  if (!is_file_name(name)) return Error(EINVAL, "unlinkat", name);
  if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return ok();
  if (errno != EISDIR && errno != EPERM) return Error::last("unlinkat", name);
  if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return ok();
  if (errno != ENOTEMPTY && errno != EEXIST) return Error::last("unlinkat", name);
  Result<Fd> top = open_at2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow);
  if (!top && top.error().err == ENOENT) return ok();
  if (!top) return top.error();
  TreeRemover remover(top->get());
  // Another remover of the same tree may move a deep directory up after our last pass.
  for (u32 pass = 0;; ++pass) {
    CAISSON_TRY(remover.empty(top->get(), 0));
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return ok();
    if ((errno != ENOTEMPTY && errno != EEXIST) || pass == kPasses) return Error::last("unlinkat", name);
  }
}

}  // namespace caisson
