#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/deadline.h"
#include "core/directory.h"
#include "core/path.h"
#include "core/uapi.h"

namespace caisson {
namespace {

constexpr int kReapGraceMs = 50;

Result<Fd> open_directory(int parent, const char* path) {
  return open_at2(parent, path, O_RDONLY | O_DIRECTORY, 0, uapi::kResolveBeneath | uapi::kResolveNoSymlinks);
}

// Enables the controllers for the children of a cgroup. One write: all or none.
Status enable_controllers(int cgroup, string_view path, span<const string_view> controllers) {
  if (controllers.empty()) return ok();
  char offered_text[1024];
  char enabled_text[1024];
  string_view offered = CAISSON_TRY(cgroup_read(cgroup, "cgroup.controllers", offered_text));
  string_view enabled = CAISSON_TRY(cgroup_read(cgroup, "cgroup.subtree_control", enabled_text));
  String order;
  for (string_view controller : controllers) {
    if (cgroup_has_word(enabled, controller)) continue;
    if (controller.empty() || !cgroup_has_word(offered, controller)) {
      String object(controller);
      object.append(" (not in cgroup.controllers of ").append(path).append(')');
      return Error(ENOTSUP, "cgroup.controllers", object);
    }
    order.append(order.empty() ? "+" : " +").append(controller);
  }
  if (order.empty()) return ok();  // the write takes a global lock even when it changes nothing
  auto written = cgroup_write(cgroup, "cgroup.subtree_control", order);
  if (written) return ok();
  String object(path);
  object.append("/cgroup.subtree_control (").append(order).append(')');
  return Error(written.error().err, "write", object);
}

// rmdir of one cgroup without children. A cgroup stays busy for a moment after its last process was reaped.
Status remove_one(int parent, const char* name) {
  Deadline deadline(kReapGraceMs);
  for (;;) {
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT || errno == ENODEV) return ok();
    if (errno != EBUSY || deadline.left_ms() == 0) return Error::last("rmdir", name);
    struct timespec pause = {0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
}

// Removes every cgroup below `top`, which may be `depth` levels of any number: one descriptor walks down and up again
// (cgroup v2 has no rename, so ".." cannot be moved away).
Status remove_below(int top) {
  Fd here = CAISSON_TRY(open_directory(top, "."));
  u32 depth = 0;
  bool returned = false;  // the child we came up from has no children any more: if it is busy now, processes are in it
  for (;;) {
    DirectoryReader reader(here.get());
    CAISSON_TRY(reader.rewind());
    bool descended = false;
    for (;;) {
      DirectoryReader::Entry entry = CAISSON_TRY(reader.next());
      if (entry.name == nullptr) break;
      if (entry.type != DT_DIR) continue;
      if (unlinkat(here.get(), entry.name, AT_REMOVEDIR) == 0 || errno == ENOENT || errno == ENODEV) {
        returned = false;
        continue;
      }
      if (errno != EBUSY) return Error::last("rmdir", entry.name);
      if (returned) {
        CAISSON_TRY(remove_one(here.get(), entry.name));
        returned = false;
        continue;
      }
      here = CAISSON_TRY(open_directory(here.get(), entry.name));
      ++depth;
      descended = true;
      break;
    }
    if (descended) continue;
    if (depth == 0) return ok();
    Fd up(openat(here.get(), "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!up) return Error::last("openat", "..");
    here = static_cast<Fd&&>(up);
    --depth;
    returned = true;
  }
}

// Splits "a/b/c" into the cgroup that holds c, and c.
struct Leaf {
  Fd parent;
  String name;
};
Result<Leaf> open_leaf_parent(int parent, string_view path) {
  while (!path.empty() && path.front() == '/') path.remove_prefix(1);
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  size_t slash = path.rfind('/');
  string_view name = slash == path.npos ? path : string_view(path.data() + slash + 1, path.size() - slash - 1);
  if (!is_file_name(name)) return Error(EINVAL, "cgroup", path);
  String above(slash == path.npos ? string_view(".") : string_view(path.data(), slash));
  Leaf leaf;
  leaf.parent = CAISSON_TRY(open_directory(parent, above.c_str()));
  leaf.name.append(name);
  return leaf;
}

}  // namespace

Result<Fd> cgroup_open(int parent, const char* path) {
  while (*path == '/') ++path;
  return open_directory(parent, *path == '\0' ? "." : path);
}

Result<Fd> cgroup_create(int parent, const char* name) {
  if (!is_file_name(name)) return Error(EINVAL, "mkdirat", name);
  if (mkdirat(parent, name, 0755) != 0) return Error::last("mkdirat", name);
  return open_directory(parent, name);
}

Result<Fd> cgroup_ensure(int root, const char* path, span<const string_view> controllers) {
  string_view whole(path);
  if (whole.size() >= kCgroupPathMax) return Error(ENAMETOOLONG, "cgroup", whole);
  Fd here = CAISSON_TRY(open_directory(root, "."));
  CAISSON_TRY(enable_controllers(here.get(), "the root cgroup", controllers));
  Fd above_made;  // undo: the parent of the first cgroup made here, and its name
  char made[256];
  Defer undo([&] {
    if (above_made) (void)cgroup_remove(above_made.get(), made);  // the first error is the one to report
  });
  for (size_t start = 0; start < whole.size();) {
    size_t end = whole.find('/', start);
    if (end == whole.npos) end = whole.size();
    string_view name(whole.data() + start, end - start);
    start = end + 1;
    if (name.empty()) continue;
    if (!is_file_name(name)) return Error(EINVAL, "cgroup", whole);
    char component[256];
    memcpy(component, name.data(), name.size());
    component[name.size()] = '\0';
    string_view reached(whole.data(), end);
    if (mkdirat(here.get(), component, 0755) == 0) {
      if (!above_made) {
        above_made = CAISSON_TRY(open_directory(here.get(), "."));
        memcpy(made, component, name.size() + 1);
      }
    } else if (errno != EEXIST) {
      return Error::last("mkdirat", reached);
    }
    here = CAISSON_TRY(open_directory(here.get(), component));
    CAISSON_TRY(enable_controllers(here.get(), reached, controllers));
  }
  undo.dismiss();
  return here;
}

Status cgroup_remove(int parent, const char* name) {
  auto leaf = open_leaf_parent(parent, name);
  if (!leaf) return leaf.error().err == ENOENT ? ok() : Status(leaf.error());
  const char* last = leaf->name.c_str();
  if (unlinkat(leaf->parent.get(), last, AT_REMOVEDIR) == 0 || errno == ENOENT) return ok();
  if (errno != EBUSY) return Error::last("rmdir", name);
  auto inside = open_directory(leaf->parent.get(), last);
  if (!inside) return inside.error().err == ENOENT ? ok() : Status(inside.error());
  CAISSON_TRY(remove_below(inside->get()));
  return remove_one(leaf->parent.get(), last);
}

Status cgroup_destroy(int parent, const char* name, int timeout_ms) {
  auto cgroup = cgroup_open(parent, name);
  if (!cgroup) return cgroup.error().err == ENOENT ? ok() : Status(cgroup.error());
  // ENODEV: removed by somebody else meanwhile
  auto killed = cgroup_kill(cgroup->get());
  if (!killed && killed.error().err != ENODEV && killed.error().err != ENOENT) return killed.error();
  auto empty = cgroup_wait_empty(cgroup->get(), timeout_ms);
  if (!empty && empty.error().err == ETIMEDOUT) return Error(ETIMEDOUT, "cgroup.kill", name);
  if (!empty && empty.error().err != ENODEV && empty.error().err != ENOENT) return empty.error();
  return cgroup_remove(parent, name);
}

}  // namespace caisson
