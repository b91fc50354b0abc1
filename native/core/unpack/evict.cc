// Removal of what a later entry of the same layer replaces.
#include <dirent.h>
#include <fcntl.h>

#include "core/unpack/layer_tree.h"

namespace caisson {
namespace {

struct Directory {
  Directory() = default;
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { close(); }
  Status open(Fd fd, string_view what) {
    close();
    stream = fdopendir(fd.get());
    if (stream == nullptr) return Error::last("fdopendir", what);
    static_cast<void>(fd.release());  // the stream's now
    return ok();
  }
  void close() {
    if (stream != nullptr) closedir(stream);
    stream = nullptr;
  }
  int fd() const { return dirfd(stream); }
  DIR* stream = nullptr;
};

// Unlinks entries until the directory is empty (false) or one of them turns out to be a directory (true, its name).
Result<bool> unlink_entries(Directory& dir, String& child, string_view what) {
  bool removed = false;
  for (;;) {
    errno = 0;
    struct dirent* entry = readdir(dir.stream);
    if (entry == nullptr) {
      if (errno != 0) return Error::last("readdir", what);
      if (!removed) return false;
      // Removal while reading may hide entries on some file systems: only a pass that finds nothing is the end.
      rewinddir(dir.stream);
      removed = false;
      continue;
    }
    string_view name(entry->d_name);
    if (name == "." || name == "..") continue;
    removed = true;
    if (unlinkat(dir.fd(), entry->d_name, 0) == 0) continue;
    if (errno != EISDIR) return Error::last("unlinkat", what);
    if (unlinkat(dir.fd(), entry->d_name, AT_REMOVEDIR) == 0) continue;
    if (errno != ENOTEMPTY) return Error::last("unlinkat", what);
    child.clear();
    child.append(name);
    return true;
  }
}

}  // namespace

Status evict(int parent, const char* name, string_view what) {
  if (unlinkat(parent, name, 0) == 0) return ok();
  if (errno != EISDIR) return Error::last("unlinkat", what);
  if (unlinkat(parent, name, AT_REMOVEDIR) == 0) return ok();
  if (errno != ENOTEMPTY) return Error::last("unlinkat", what);

  // Depth first with one directory open at a time, since an archive can nest deeper than there are descriptors. ".."
  // is the way back: nobody else moves directories in a layer that is being made.
  Vec<String> way;
  way.push(String(string_view(name)));
  Directory dir;
  Fd top = CAISSON_TRY(open_leaf(parent, name, O_RDONLY | O_DIRECTORY, 0, what));
  CAISSON_TRY(dir.open(static_cast<Fd&&>(top), what));
  for (;;) {
    String child;
    if (CAISSON_TRY(unlink_entries(dir, child, what))) {
      Fd below = CAISSON_TRY(open_leaf(dir.fd(), child.c_str(), O_RDONLY | O_DIRECTORY, 0, what));
      CAISSON_TRY(dir.open(static_cast<Fd&&>(below), what));
      way.push(static_cast<String&&>(child));
      continue;
    }
    if (way.size() == 1) break;
    int up = openat(dir.fd(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (up < 0) return Error::last("openat", what);
    CAISSON_TRY(dir.open(Fd(up), what));
    if (unlinkat(dir.fd(), way.back().c_str(), AT_REMOVEDIR) != 0) return Error::last("unlinkat", what);
    way.pop();
  }
  if (unlinkat(parent, name, AT_REMOVEDIR) != 0) return Error::last("unlinkat", what);
  return ok();
}

}  // namespace caisson
