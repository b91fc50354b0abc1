// Device nodes, symlinks and directories that are made inside the assembled root.
#include <sys/sysmacros.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

struct Name {
  char text[256];
  // Components are at most 255 bytes (NAME_MAX).
  bool set(string_view name) {
    if (name.size() >= sizeof text) {
      errno = ENAMETOOLONG;
      return false;
    }
    memcpy(text, name.data(), name.size());
    text[name.size()] = '\0';
    return true;
  }
};

// CVE-2026-41579, CVE-2026-47766: a root whose /dev is a symlink made nodes and links on the host.
int open_parent(Stage& s, string_view path, Name& name) {
  const size_t slash = path.rfind('/');
  string_view last = part(path, slash + 1);
  if (s.parent < 0 || last.empty() || part(path, 0, slash) != s.parent_path) {
    s.parent = s.check(reach_parent(s.root, path, !is_protected(path), last));
    s.parent_path = part(path, 0, slash);
  }
  if (!name.set(last)) s.fail(errno);
  return s.parent;
}

void lend_node(Stage& s, int node, int parent, const char* name) {
  int target = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (target < 0 && errno != EEXIST) s.fail(errno);
  if (target >= 0) close(target);
  target = s.check(openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  s.check(sys::move_mount(node, target));
  let_go(target);
  let_go(node);
}

bool is_node(const struct stat& st, const DeviceEntry& device, dev_t number) {
  return (st.st_mode & S_IFMT) == device.type && st.st_rdev == number;
}

void make_node(Stage& s, const DeviceEntry& device, int parent, const char* name) {
  dev_t number = device.type == S_IFIFO ? 0 : makedev(device.major, device.minor);
  struct stat st = {};
  if (mknodat(parent, name, device.type | device.mode, number) != 0) {
    if (errno != EEXIST) s.fail(errno);
    s.check(fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW));
    if (!is_node(st, device, number)) s.fail(EEXIST);
    return;  // an existing node keeps its owner: it may be the host's (crun 1.24)
  }
  if (device.uid == 0 && device.gid == 0) return;
  // In a volume, a container that shares it may have put a file of its choice in the place of the node meanwhile.
  int node = s.check(openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  s.check(fstat(node, &st));
  if (!is_node(st, device, number)) s.fail(EEXIST);
  s.check(fchownat(node, "", device.uid, device.gid, AT_EMPTY_PATH));
  let_go(node);
}

bool has_new_proc(const Stage& s) {
  for (const MountEntry& mount : s.plan->mounts())
    if (mount.kind == MountKind::kFilesystem && s.plan->text(mount.fstype) == "proc" &&
        s.plan->text(mount.destination) == "/proc")
      return true;
  return false;
}

}  // namespace

void make_devices(Stage& s) {
  span<const DeviceEntry> devices = s.plan->devices();
  for (u32 i = 0; i < devices.size(); ++i) {
    s.at(Step::kDevice, i);
    Name name;
    int parent = open_parent(s, s.plan->text(devices[i].path), name);
    if (s.lends_devices() && devices[i].type != S_IFIFO)
      lend_node(s, s.devices[i], parent, name.text);
    else
      make_node(s, devices[i], parent, name.text);
  }
}

void make_links(Stage& s) {
  span<const LinkEntry> links = s.plan->links();
  string_view present = has_new_proc(s) ? string_view("/proc/self/fd") : string_view();
  for (u32 i = 0; i < links.size(); ++i) {
    s.at(Step::kSymlink, i);
    const char* target = s.plan->c_str(links[i].target);
    // runtime-linux.md: "if the source file exists after processing mounts". Where /proc/self/fd is, are 0, 1 and 2.
    if (target[0] == '/' && (present.empty() || !string_view(target).starts_with(present))) {
      constexpr u64 kResolve = uapi::kResolveInRoot | uapi::kResolveNoMagiclinks;
      int found = sys::openat2(s.root, target, O_PATH | O_NOFOLLOW, 0, kResolve);
      if (found < 0 && (errno == ENOENT || errno == ENOTDIR)) continue;
      let_go(s.check(found));
      present = s.plan->text(links[i].target);
    }
    Name name;
    int parent = open_parent(s, s.plan->text(links[i].path), name);
    int result = symlinkat(target, parent, name.text);
    if (result != 0 && errno == EEXIST && links[i].replace) {
      s.check(unlinkat(parent, name.text, 0));
      result = symlinkat(target, parent, name.text);
    }
    if (result != 0 && errno != EEXIST) s.fail(errno);
  }
}

void make_directories(Stage& s) {
  span<const Str> volumes = s.plan->volumes();
  for (u32 i = 0; i < volumes.size(); ++i) {
    s.at(Step::kVolume, i);
    let_go(s.check(reach(s.root, s.plan->text(volumes[i]), TargetKind::kDirectory, true)));
  }
  // A working directory that is missing is made; where it cannot be, the change to it says so.
  if (s.plan->text(s.plan->process().cwd) == "/") return;
  int cwd = reach(s.root, s.plan->text(s.plan->process().cwd), TargetKind::kDirectory, true);
  if (cwd >= 0) let_go(cwd);
}

}  // namespace caisson
