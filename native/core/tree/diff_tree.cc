#include "core/tree/diff_tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/directory.h"
#include "core/path.h"
#include "core/tree/same_file.h"
#include "core/tree/tree_cloner.h"
#include "core/unpack/layer_tree.h"

namespace caisson {
namespace {

// A directory of the merged layers: those that are seen through one another, the topmost first.
using Stack = Vec<Fd>;

// What the merged layers have under a name.
struct Lower {
  bool present = false;
  struct stat st = {};
  int parent = -1;  // of a file: the directory that has it
  Stack directories;
};

// fs/overlayfs/namei.c, ovl_lookup(): the topmost entry decides; directories merge until one is opaque, or no
// directory.
Result<Lower> look_up(const Stack& stack, const char* name, string_view path) {
  Lower lower;
  for (const Fd& each : stack) {
    struct stat st = {};
    if (fstatat(each.get(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return Error::last("fstatat", path);
    }
    if (is_whiteout(st)) break;
    if (!lower.present) {
      lower.present = true;
      lower.st = st;
      lower.parent = each.get();
      if (!S_ISDIR(st.st_mode)) break;
    }
    if (!S_ISDIR(st.st_mode)) break;
    Fd dir = CAISSON_TRY(open_at2(each.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow));
    const bool opaque = is_opaque_directory(dir.get());
    lower.directories.push(static_cast<Fd&&>(dir));
    if (opaque) break;
  }
  return lower;
}

class TreeDiffer {
 public:
  TreeDiffer(int to, timespec since, const Cancellation& cancellation)
      : cloner_(to, CloneKind::kLayer, cancellation), since_(since) {}

  // Whether anything was written to `to`.
  Result<bool> directory(const Stack& lowers, int upper, int to, u32 depth) {
    const bool changed = CAISSON_TRY(present(lowers, upper, to, depth));
    const bool lacking = CAISSON_TRY(absent(lowers, upper, to, depth));
    return changed || lacking;
  }

  Status finish(int upper, int to) { return cloner_.finish_directory(upper, to); }
  const CloneStats& stats() const { return cloner_.stats(); }

 private:
  // What the tree has.
  Result<bool> present(const Stack& lowers, int upper, int to, u32 depth) {
    bool changed = false;
    DirectoryReader reader(upper);
    CAISSON_TRY(reader.rewind());
    for (;;) {
      const DirectoryReader::Entry found = CAISSON_TRY(reader.next());
      if (found.name == nullptr) return changed;
      CAISSON_TRY(cloner_.go_on(depth));
      const PathScope scope(cloner_.path(), found.name);
      const bool differs = CAISSON_TRY(entry(lowers, upper, to, found.name, depth));
      changed = changed || differs;
    }
  }

  Result<bool> entry(const Stack& lowers, int upper, int to, const char* name, u32 depth) {
    struct stat st = {};
    if (fstatat(upper, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return false;
      return cloner_.failed("fstatat");
    }
    Lower lower = CAISSON_TRY(look_up(lowers, name, cloner_.path().view()));
    if (lower.present && S_ISDIR(st.st_mode) && S_ISDIR(lower.st.st_mode))
      return subdirectory(lower, upper, to, name, st, depth);
    if (lower.present) {
      const bool same = CAISSON_TRY(same_entry(lower.parent, upper, name, lower.st, st, since_));
      if (same) return false;
    }
    CAISSON_TRY(cloner_.entry(upper, to, name, depth));
    return true;
  }

  Result<bool> subdirectory(const Lower& lower, int upper, int to, const char* name, const struct stat& st, u32 depth) {
    Fd source = CAISSON_TRY(open_at2(upper, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow));
    Fd target = CAISSON_TRY(make_directory_at(to, name, 0700, false));
    bool changed = CAISSON_TRY(directory(lower.directories, source.get(), target.get(), depth + 1));
    // Its own time changes with its entries; alone it is no reason for an entry in the layer.
    changed = changed || !same_attributes(lower.st, st) ||
              !CAISSON_TRY(same_xattrs(lower.directories[0].get(), source.get(), cloner_.path().view()));
    if (!changed) {
      if (unlinkat(to, name, AT_REMOVEDIR) != 0) return cloner_.failed("unlinkat");
      return false;
    }
    CAISSON_TRY(cloner_.finish_directory(source.get(), target.get()));
    return true;
  }

  // What the tree lacks: whiteouts.
  Result<bool> absent(const Stack& lowers, int upper, int to, u32 depth) {
    bool changed = false;
    for (const Fd& each : lowers) {
      DirectoryReader reader(each.get());
      CAISSON_TRY(reader.rewind());
      for (;;) {
        const DirectoryReader::Entry found = CAISSON_TRY(reader.next());
        if (found.name == nullptr) break;
        CAISSON_TRY(cloner_.go_on(depth));
        struct stat st = {};
        if (fstatat(upper, found.name, &st, AT_SYMLINK_NOFOLLOW) == 0) continue;
        if (errno != ENOENT) return cloner_.failed("fstatat");
        const PathScope scope(cloner_.path(), found.name);
        const Lower lower = CAISSON_TRY(look_up(lowers, found.name, cloner_.path().view()));
        if (!lower.present) continue;
        if (mknodat(to, found.name, S_IFCHR, makedev(0, 0)) != 0 && errno != EEXIST) return cloner_.failed("mknodat");
        changed = true;
      }
    }
    return changed;
  }

  TreeCloner cloner_;
  timespec since_;
};

}  // namespace

Result<CloneStats> diff_tree(span<const int> lowers, int upper, int to, timespec since,
                             const Cancellation& cancellation) {
  Stack stack;
  for (const int each : lowers) stack.push(CAISSON_TRY(open_at2(each, ".", O_RDONLY | O_DIRECTORY, 0, 0)));
  Fd source = CAISSON_TRY(open_at2(upper, ".", O_RDONLY | O_DIRECTORY, 0, 0));
  Fd target = CAISSON_TRY(open_at2(to, ".", O_RDONLY | O_DIRECTORY, 0, 0));
  TreeDiffer differ(target.get(), since, cancellation);
  CAISSON_TRY(differ.directory(stack, source.get(), target.get(), 0));
  CAISSON_TRY(differ.finish(source.get(), target.get()));
  return differ.stats();
}

}  // namespace caisson
