#include "core/unpack/layer_tree.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "core/sys.h"
#include "core/unpack/implied.h"
#include "core/unpack/layer_attributes.h"
#include "core/unpack/layer_names.h"

namespace caisson {
namespace {

constexpr u64 kInRoot = uapi::kResolveInRoot | uapi::kResolveNoMagiclinks | uapi::kResolveNoXdev;
constexpr u64 kOneStep =
    uapi::kResolveBeneath | uapi::kResolveNoSymlinks | uapi::kResolveNoMagiclinks | uapi::kResolveNoXdev;
constexpr int kDirectory = O_RDONLY | O_DIRECTORY;
constexpr u32 kMaxLinks = 40;  // MAXSYMLINKS of the kernel

// The length of `path` without its last component and the slash before it.
size_t parent_length(string_view path) {
  size_t slash = path.rfind('/');
  return slash == string_view::npos ? 0 : slash;
}

}  // namespace

Status clean_name(string_view raw, String& out) {
  out.clear();
  string_view rest = raw;
  for (;;) {
    string_view component = take_component(rest);
    if (component.empty()) return ok();
    if (component == ".") continue;
    if (component == "..") {
      if (out.empty()) return Error(EPERM, "unpack: the name leads out of the layer", raw);
      String up(string_view(out.c_str(), parent_length(out)));
      out = static_cast<String&&>(up);
      continue;
    }
    if (!out.empty()) out.append('/');
    out.append(component);
  }
}

bool is_whiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0); }

Status make_opaque(int dirfd, string_view name) {
  if (fsetxattr(dirfd, "trusted.overlay.opaque", "y", 1, 0) != 0)
    return Error::last("fsetxattr trusted.overlay.opaque", name);
  return ok();
}

bool is_opaque_directory(int dirfd) {
  char value[2];
  return fgetxattr(dirfd, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

Status mark_whiteouts(int dirfd, string_view name) {
  if (fsetxattr(dirfd, "trusted.overlay.origin", "", 0, 0) != 0)
    return Error::last("fsetxattr trusted.overlay.origin", name);
  return ok();
}

Result<Fd> open_leaf(int dirfd, const char* name, int flags, u32 mode, string_view what) {
  int fd = sys::openat2(dirfd, name, static_cast<u32>(flags) | O_NOFOLLOW, mode, kOneStep);
  if (fd < 0) return Error::last("openat2", what);
  return Fd(fd);
}

Result<Fd> make_directory(int dirfd, const char* name, i64 mtime, string_view what) {
  struct stat st;
  if (fstat(dirfd, &st) != 0) return Error::last("fstat", what);
  if (mkdirat(dirfd, name, 0755) != 0) return Error::last("mkdirat", what);
  Fd made = CAISSON_TRY(open_leaf(dirfd, name, O_RDONLY | O_DIRECTORY, 0, what));
  // the directory above may hand down a list and a group, the caller's umask has taken bits off the mode
  CAISSON_TRY(drop_xattrs(made.get(), what));
  if (fchown(made.get(), 0, 0) != 0) return Error::last("fchown", what);
  if (fchmod(made.get(), 0755) != 0) return Error::last("fchmod", what);
  const struct timespec own[2] = {{0, UTIME_OMIT}, {mtime, 0}};
  const struct timespec parents[2] = {{0, UTIME_OMIT}, st.st_mtim};
  if (futimens(made.get(), own) != 0 || futimens(dirfd, parents) != 0) return Error::last("futimens", what);
  return made;
}

Result<LayerTree> LayerTree::open(int root, bool inherits) {
  int fd = sys::openat2(root, ".", kDirectory, 0, kOneStep);
  if (fd < 0) return Error::last("openat2", "layer directory");
  return LayerTree(Fd(fd), inherits);
}

Result<Fd> LayerTree::open_directory(string_view path) const {
  String name(path.empty() ? string_view(".") : path);
  int fd = sys::openat2(root_.get(), name.c_str(), kDirectory, 0, kInRoot);
  if (fd < 0) return Error::last("openat2", path);
  return Fd(fd);
}

Result<Fd> LayerTree::find(string_view path) const {
  String name(path.empty() ? string_view(".") : path);
  int fd = sys::openat2(root_.get(), name.c_str(), O_PATH | O_NOFOLLOW, 0, kInRoot);
  if (fd < 0) return Error::last("openat2", path);
  return Fd(fd);
}

// Walks and makes. `real` is the way so far with all links resolved, so ".." of a link's target is its last component.
Result<Fd> LayerTree::make_directories(string_view path, i64 mtime) {
  Fd at = CAISSON_TRY(open_directory(""));
  String real;
  String todo(path);
  string_view rest = todo;
  u32 links = 0;
  for (;;) {
    string_view component = take_component(rest);
    if (component.empty()) return at;
    if (component == ".") continue;
    if (component == "..") {
      String up(string_view(real.c_str(), parent_length(real)));
      real = static_cast<String&&>(up);
      at = CAISSON_TRY(open_directory(real));
      continue;
    }
    String name(component);
    Result<Fd> next = open_leaf(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY, 0, path);
    if (!next && next.error().err == ENOENT) {
      at = CAISSON_TRY(make_directory(at.get(), name.c_str(), mtime, path));
      if (inherits_) {
        CAISSON_TRY(mark_implied(at.get(), path));
        ++implied_;
      }
    } else if (next) {
      at = next.take();
    } else if (next.error().err == ELOOP || next.error().err == ENOTDIR) {
      struct stat st;
      if (fstatat(at.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return Error::last("fstatat", path);
      if (S_ISLNK(st.st_mode)) {
        if (++links > kMaxLinks) return Error(ELOOP, "unpack: too many symbolic links", path);
        char target[4096];  // PATH_MAX; symlink(2) accepts no longer one
        ssize_t n = readlinkat(at.get(), name.c_str(), target, sizeof target);
        if (n < 0) return Error::last("readlinkat", path);
        String longer(string_view(target, static_cast<size_t>(n)));
        longer.append('/').append(rest);
        todo = static_cast<String&&>(longer);
        rest = todo;
        if (target[0] == '/') {
          real.clear();
          at = CAISSON_TRY(open_directory(""));
        }
        continue;
      }
      if (!is_whiteout(st)) return Error(ENOTDIR, "unpack: a parent is not a directory", path);
      // The whiteout hides the directory of lower layers, the entry wants one of its own: an opaque directory is both.
      if (unlinkat(at.get(), name.c_str(), 0) != 0) return Error::last("unlinkat", path);
      at = CAISSON_TRY(make_directory(at.get(), name.c_str(), mtime, path));
      CAISSON_TRY(make_opaque(at.get(), path));
    } else {
      return next.error();
    }
    if (!real.empty()) real.append('/');
    real.append(name);
  }
}

Result<int> LayerTree::parent_of(string_view path, i64 mtime, String& leaf) {
  size_t n = parent_length(path);
  string_view parent(path.data(), n);
  string_view name = path;
  if (n != 0) name.remove_prefix(n + 1);
  leaf.clear();
  leaf.append(name);
  if (parent_ && parent_path_.view() == parent) return parent_.get();

  CAISSON_TRY(settle());
  Result<Fd> opened = open_directory(parent);
  // ENOENT: missing or a dangling link. ENOTDIR: perhaps a whiteout.
  if (!opened && (opened.error().err == ENOENT || opened.error().err == ENOTDIR)) {
    parent_ = CAISSON_TRY(make_directories(parent, mtime));
  } else {
    parent_ = CAISSON_TRY(static_cast<Result<Fd>&&>(opened));
  }
  parent_path_.clear();
  parent_path_.append(parent);
  struct stat st;
  if (fstat(parent_.get(), &st) != 0) return Error::last("fstat", parent);
  parent_mtime_ = st.st_mtim;
  parent_gid_ = st.st_gid;
  // whatever keeps it from being told, but that there is none, is taken for one
  parent_acl_ = fgetxattr(parent_.get(), "system.posix_acl_default", nullptr, 0) >= 0 ||
                (errno != ENODATA && errno != EOPNOTSUPP);
  return parent_.get();
}

Status LayerTree::settle() {
  if (!parent_) return ok();
  Fd parent = std::exchange(parent_, Fd());
  const struct timespec times[2] = {{0, UTIME_OMIT}, parent_mtime_};
  if (futimens(parent.get(), times) != 0) return Error::last("futimens", parent_path_);
  return ok();
}

}  // namespace caisson
