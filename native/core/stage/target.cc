// Paths inside a root, reached by descriptor and made component by component (CVE-2021-30465, CVE-2024-45310: a symlink
// swapped between the making of a directory and the mount on it led to the host).
#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr int kExpansionsMax = 16;  // dangling symlinks on the way

struct PathBuffer {
  char text[kPlanPathMax + 1];
  size_t size = 0;

  bool set(string_view a, string_view b = {}, string_view c = {}) {
    if (a.size() + b.size() + c.size() + 2 >= sizeof text) {
      errno = ENAMETOOLONG;
      return false;
    }
    size = 0;
    for (string_view piece : {a, b, c}) {
      if (piece.empty()) continue;
      if (size != 0) text[size++] = '/';
      memcpy(text + size, piece.data(), piece.size());
      size += piece.size();
    }
    text[size] = '\0';
    return true;
  }
  string_view view() const { return {text, size}; }
};

int open_path(int root, const char* path, bool directory, bool follow) {
  u64 resolve = uapi::kResolveInRoot | uapi::kResolveNoMagiclinks | (follow ? 0 : uapi::kResolveNoSymlinks);
  return sys::openat2(root, path, O_PATH | (directory ? O_DIRECTORY : 0), 0, resolve);
}

enum class Made { kYes, kNo, kExists };

Made make_component(int parent, const char* name, bool directory) {
  if (directory) {
    if (mkdirat(parent, name, 0755) == 0) return Made::kYes;
  } else {
    int fd = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd >= 0) {
      close(fd);  // a writer would keep the root from becoming read-only
      return Made::kYes;
    }
  }
  return errno == EEXIST ? Made::kExists : Made::kNo;
}

// One walk. Gives the descriptor, or -1 with errno; ESTALE: `path` was rewritten past a dangling symlink, walk again.
int walk(int root, PathBuffer& path, TargetKind kind, bool follow) {
  PathBuffer prefix;
  int at = open_path(root, "/", true, true);
  if (at < 0) return -1;
  for (size_t from = 0; from < path.size;) {
    while (from < path.size && path.text[from] == '/') ++from;
    if (from == path.size) break;
    size_t to = from;
    while (to < path.size && path.text[to] != '/') ++to;
    size_t rest = to;
    while (rest < path.size && path.text[rest] == '/') ++rest;
    bool directory = rest < path.size || kind == TargetKind::kDirectory;

    PathBuffer name;
    if (!name.set(part(path.view(), from, to - from)) || !prefix.set(part(path.view(), 0, to))) {
      let_go(at);
      errno = ENAMETOOLONG;
      return -1;
    }
    int next = open_path(root, prefix.text, directory, follow);
    if (next < 0 && errno == ENOENT) {
      Made made = make_component(at, name.text, directory);
      if (made == Made::kYes) {
        next = openat(at, name.text, O_PATH | O_NOFOLLOW | O_CLOEXEC | (directory ? O_DIRECTORY : 0));
      } else if (made == Made::kExists) {
        // A dangling symlink, as images have: /var/run -> /run, /etc/resolv.conf -> ../run/...
        PathBuffer link;
        ssize_t n = readlinkat(at, name.text, link.text, sizeof link.text - 1);
        if (n > 0 && follow) {
          string_view target(link.text, static_cast<size_t>(n));
          string_view above = part(path.view(), 0, from);
          PathBuffer fresh;
          bool fits = target.starts_with('/') ? fresh.set(target, part(path.view(), rest))
                                              : fresh.set(above, target, part(path.view(), rest));
          if (fits) {
            path = fresh;
            errno = ESTALE;
          }
        } else if (n > 0) {
          errno = ELOOP;
        } else if (errno == EINVAL) {
          errno = ESTALE;  // somebody made it meanwhile
        }
      }
    }
    int err = errno;
    let_go(at);
    errno = err;
    if (next < 0) return -1;
    at = next;
    from = rest;
  }
  return at;
}

// The common case: only the last component is missing.
int make_last(int root, const PathBuffer& path, TargetKind kind, bool follow) {
  const size_t slash = path.view().rfind('/');
  const string_view last = part(path.view(), slash + 1);
  PathBuffer above;
  if (last.empty() || last == "." || last == ".." || slash == string_view::npos ||
      !above.set(part(path.view(), 0, slash)))
    return -1;
  const bool directory = kind == TargetKind::kDirectory;
  int parent = open_path(root, above.size == 0 ? "/" : above.text, true, follow);
  if (parent < 0) return -1;
  const char* name = path.text + slash + 1;
  int fd = -1;
  if (make_component(parent, name, directory) == Made::kYes)
    fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC | (directory ? O_DIRECTORY : 0));
  let_go(parent);
  return fd;
}

}  // namespace

int reach(int root, string_view path, TargetKind kind, bool follow) {
  PathBuffer buffer;
  if (!buffer.set(path)) return -1;
  for (int tries = 0; tries < kExpansionsMax; ++tries) {
    int fd = open_path(root, buffer.text, kind == TargetKind::kDirectory, follow);
    if (fd >= 0 || errno != ENOENT) return fd;
    fd = make_last(root, buffer, kind, follow);
    if (fd >= 0) return fd;
    fd = walk(root, buffer, kind, follow);
    if (fd >= 0 || errno != ESTALE) return fd;
  }
  errno = ELOOP;
  return -1;
}

int reach_present(int root, string_view path, TargetKind kind, bool follow) {
  PathBuffer buffer;
  return buffer.set(path) ? open_path(root, buffer.text, kind == TargetKind::kDirectory, follow) : -1;
}

int reach_parent(int root, string_view path, bool follow, string_view& name) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  size_t slash = path.rfind('/');
  name = part(path, slash + 1);
  if (name.empty() || name == "." || name == "..") {
    errno = EINVAL;
    return -1;
  }
  return reach(root, slash == 0 ? string_view("/") : part(path, 0, slash), TargetKind::kDirectory, follow);
}

bool is_protected(string_view path) {
  for (string_view top : {string_view("/proc"), string_view("/sys"), string_view("/dev")}) {
    if (path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/')) return true;
  }
  return false;
}

}  // namespace caisson
