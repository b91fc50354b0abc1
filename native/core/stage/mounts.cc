// The mounts of the plan: each is made or taken detached and attached by descriptor, so that no path is walked twice.
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

// Has `data` the option `key`, as key=value?
bool names(string_view data, string_view key) {
  while (!data.empty()) {
    if (data.starts_with(key) && data.size() > key.size() && data[key.size()] == '=') return true;
    size_t end = data.find(',');
    if (end == data.npos) break;
    data = part(data, end + 1);
  }
  return false;
}

// A new tmpfs has the mode of the directory it covers where the options say none, as runc and crun have it: /tmp stays
// what it was. Where there is none, it has the mode that tmpfs gives.
void configure_mode(Stage& s, int fs, const MountEntry& mount) {
  if (s.plan->text(mount.fstype) != "tmpfs" || names(s.plan->text(mount.data), "mode")) return;
  int covered = sys::openat2(s.root, s.plan->c_str(mount.destination), O_PATH | O_DIRECTORY, 0,
                             uapi::kResolveInRoot | uapi::kResolveNoMagiclinks);
  if (covered < 0) return;
  struct stat st = {};
  s.check(fstat(covered, &st));
  let_go(covered);
  char mode[5] = {};
  for (int i = 0; i < 4; ++i) mode[i] = static_cast<char>('0' + (st.st_mode >> (9 - 3 * i) & 7));
  s.check(sys::fsconfig_string(fs, "mode", mode));
}

// SELinux has one label for all of a file system, told when it is made; proc and sysfs have labels of their own
// (go-selinux, libselinux), as the tree of cgroups, which is the host's.
void configure_label(Stage& s, int fs, string_view type) {
  if (!s.label || type == "proc" || type == "sysfs" || type == "cgroup2" || type == "mqueue") return;
  s.found = "context";
  check_context(s, fs, sys::fsconfig_string(fs, "context", s.mount_label()));
  s.found = {};
}

// The message queues of a namespace are one file system, which exists before it is mounted. The host's are left alone.
void label_root(Stage& s, int mount, string_view type) {
  if (!s.label || type != "mqueue" || s.plan->head().ns(NamespaceType::kIpc).mode == NamespaceMode::kHost) return;
  Str label = s.plan->head().mount_label;
  int fd = s.check(openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  s.found = "context";
  s.check(fsetxattr(fd, "security.selinux", s.plan->c_str(label), label.length, 0));
  s.found = {};
  let_go(fd);
}

bool is_shown_read_only(const MountEntry& mount) {
  return ((mount.attr_set | mount.recursive_set) & uapi::kMountAttrRdonly) != 0;
}

// Nodes and mount points are made in /dev and in a tmpfs first; protect_mounts() makes it read-only.
bool is_written_first(const Stage& s, const MountEntry& mount) {
  if (mount.kind != MountKind::kFilesystem || !is_shown_read_only(mount)) return false;
  return s.plan->text(mount.fstype) == "tmpfs" || s.plan->text(mount.destination) == "/dev";
}

int new_filesystem(Stage& s, const MountEntry& mount) {
  string_view type = s.plan->text(mount.fstype);
  int fs = s.check(sys::fsopen(s.plan->c_str(mount.fstype)));
  const char* source = s.plan->c_str(mount.source.length != 0 ? mount.source : mount.fstype);
  check_context(s, fs, sys::fsconfig_string(fs, "source", source));
  configure_mode(s, fs, mount);
  configure_superblock(s, fs, mount);
  configure_label(s, fs, type);
  check_context(s, fs, sys::fsconfig_create(fs));
  u64 attrs = mount.attr_set;
  if (is_written_first(s, mount)) attrs &= ~uapi::kMountAttrRdonly;
  int fd = check_context(s, fs, sys::fsmount(fs, attrs));
  let_go(fs);
  label_root(s, fd, type);
  return fd;
}

bool is_kernel_tree(string_view type) { return type == "proc" || type == "sysfs" || type == "cgroup2"; }

// fsconfig(2) takes strings of up to 255 bytes, mount(2) a page of options: overlay's lowerdir may be long.
bool fits_fsconfig(string_view data) {
  while (!data.empty()) {
    size_t end = data.find(',');
    string_view option = part(data, 0, end);
    size_t equals = option.find('=');
    size_t value = equals == option.npos ? 0 : option.size() - equals - 1;
    if (part(option, 0, equals).size() > 255 || value > 255) return false;
    if (end == data.npos) break;
    data = part(data, end + 1);
  }
  return true;
}

struct Attribute {
  u64 attr;
  u64 flag;
};
// Not MOUNT_ATTR_RDONLY: MS_RDONLY makes the file system itself read-only, which others may share (sysfs, cgroup2).
constexpr Attribute kAttributes[] = {
    {uapi::kMountAttrNosuid, uapi::kMsNosuid},           {uapi::kMountAttrNodev, uapi::kMsNodev},
    {uapi::kMountAttrNoexec, uapi::kMsNoexec},           {uapi::kMountAttrNoatime, uapi::kMsNoatime},
    {uapi::kMountAttrStrictatime, uapi::kMsStrictatime}, {uapi::kMountAttrNodiratime, uapi::kMsNodiratime},
    {uapi::kMountAttrNosymfollow, uapi::kMsNosymfollow},
};

// Is one call of mount(2) as good as the five to nine that the mount API takes, with nothing to do afterwards?
bool is_plain(const Stage& s, const MountEntry& mount) {
  u64 rest = mount.attr_set;
  for (const Attribute& each : kAttributes) rest &= ~each.attr;
  rest |= mount.flags | mount.propagation | mount.recursive_set | mount.recursive_clr;
  rest |= mount.superblock | mount.superblock_clr;
  const string_view data = s.plan->text(mount.data);
  return rest == 0 && !s.label && data.size() < kPlanPathMax &&
         (s.plan->text(mount.fstype) != "tmpfs" || names(data, "mode"));
}

// By mount(2). The working directory names the place, so that no path is walked. -1 with errno on failure.
int mount_here(Stage& s, const MountEntry& mount, u64 flags, int target) {
  const char* type = s.plan->c_str(mount.fstype);
  const char* source = mount.source.length != 0 ? s.plan->c_str(mount.source) : type;
  s.check(fchdir(target));
  return sys::mount(source, ".", type, flags, s.plan->c_str(mount.data));
}

// A mount that mount(2) makes has no descriptor, and whoever looks for it by its path may find another one: a container
// that shares a volume swaps symlinks there. So it is made in a file system that nobody else has, and a clone of it is
// what is mounted. That file system lies on top of the root, below which everything is reached from Stage::root, and
// which is no peer of a mount of the host's.
int mount_with_page(Stage& s, const MountEntry& mount, int target) {
  if (s.label) s.fail(E2BIG);  // a label is one more option, and quoted there
  int fs = s.check(sys::fsopen("tmpfs"));
  s.check(sys::fsconfig_create(fs));
  int own = s.check(sys::fsmount(fs, 0));
  s.check(sys::move_mount(own, s.root));
  s.check(mkdirat(own, "m", 0755));
  s.check(mount_here(s, mount, mount.superblock, s.check(openat(own, "m", O_PATH | O_DIRECTORY | O_CLOEXEC))));
  int fd = s.check(sys::open_tree(own, "m", uapi::kOpenTreeClone));
  s.check(fchdir(own));
  s.check(sys::umount2(".", uapi::kMntDetach));
  s.check(chdir("/"));
  let_go(own);
  let_go(fs);
  s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath, {mount.attr_set, mount.attr_clr, 0, 0}));
  s.check(sys::move_mount(fd, target));
  return fd;
}

bool on_procfs(Stage& s, int fd) {
  struct statfs fs = {};
  s.check(fstatfs(fd, &fs));
  return static_cast<u64>(fs.f_type) == uapi::kProcSuperMagic;
}

// Mount points below /dev are made in a new file system, one after the other: the directory they are in is opened once.
int reach_protected(Stage& s, string_view path, TargetKind kind) {
  const size_t slash = path.rfind('/');
  const string_view last = part(path, slash + 1);
  if (slash == 0 || kind != TargetKind::kDirectory || last.empty() || last == "." || last == "..")
    return reach(s.root, path, kind, false);
  if (s.parent < 0 || s.parent_path != part(path, 0, slash)) {
    int fd = reach_present(s.root, path, kind, false);
    if (fd >= 0 || errno != ENOENT) return fd;
    string_view name;
    s.parent = s.check(reach_parent(s.root, path, false, name));
    s.parent_path = part(path, 0, slash);
  }
  // The plan's strings end with a zero.
  if (mkdirat(s.parent, last.data(), 0755) != 0) return reach(s.root, path, kind, false);
  return openat(s.parent, last.data(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

// What was mounted may lie over it. A path that is not protected may lead anywhere.
void forget_parent(Stage& s, const MountEntry& mount) {
  const string_view path = s.plan->text(mount.destination);
  const string_view kept = s.parent_path;
  const bool covers = kept.starts_with(path) && (kept.size() == path.size() || kept[path.size()] == '/');
  if (s.parent < 0 || (is_protected(path) && !covers)) return;
  let_go(s.parent);
  s.parent = -1;
}

int open_target(Stage& s, u32 index, TargetKind kind) {
  const MountEntry& mount = s.plan->mounts()[index];
  s.at(Step::kMountTarget, index);
  string_view path = s.plan->text(mount.destination);
  // CVE-2019-16884, CVE-2023-27561: an image whose /proc or /sys is a symlink must not decide where they end.
  const bool strict =
      is_protected(path) || (mount.kind == MountKind::kFilesystem && is_kernel_tree(s.plan->text(mount.fstype)));
  int target = s.check(is_protected(path) ? reach_protected(s, path, kind) : reach(s.root, path, kind, !strict));
  // The compiler says what of /proc may be covered; a symlink of the image that leads there must not say otherwise.
  if (!strict && on_procfs(s, target)) s.fail(EXDEV);
  return target;
}

// A tmpfs takes over what the root has there, with its owner and mode unless the options gave it others.
void copy_up(Stage& s, const MountEntry& mount, int target, int fd) {
  struct stat st = {};
  s.check(fstat(fd, &st));
  s.check(copy_tree(target, fd, 0));
  string_view data = s.plan->text(mount.data);
  const bool mode = names(data, "mode");
  const bool uid = names(data, "uid");
  const bool gid = names(data, "gid");
  if (!mode && !uid && !gid) return;
  int own = s.check(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  s.check(fchown(own, uid ? st.st_uid : static_cast<uid_t>(-1), gid ? st.st_gid : static_cast<gid_t>(-1)));
  if (mode) s.check(fchmod(own, st.st_mode & 07777));
  let_go(own);
}

// What a clone had done to it when it was taken.
void finish_fresh(Stage& s, const MountEntry& mount, int fd) {
  const bool later = is_written_first(s, mount);
  u64 recursive = mount.recursive_set;
  if (later) recursive &= ~uapi::kMountAttrRdonly;
  if ((recursive | mount.recursive_clr) != 0)
    s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath, {recursive, mount.recursive_clr, 0, 0}));
  set_propagation(s, fd, mount);
  if ((mount.flags & kMountIversion) != 0) change_iversion(s, fd, mount);
}

void mount_long(Stage& s, u32 index) {
  const MountEntry& mount = s.plan->mounts()[index];
  int target = open_target(s, index, TargetKind::kDirectory);
  s.at(Step::kMount, index);
  int fd = mount_with_page(s, mount, target);
  let_go(target);
  forget_parent(s, mount);
  s.at(Step::kMountAttributes, index);
  finish_fresh(s, mount, fd);
  let_go(fd);
}

// false: the mount API is to say why it cannot be, which it does in more words.
bool mount_plainly(Stage& s, u32 index) {
  const MountEntry& mount = s.plan->mounts()[index];
  u64 flags = 0;
  for (const Attribute& each : kAttributes)
    if ((mount.attr_set & each.attr) != 0) flags |= each.flag;
  int target = open_target(s, index, TargetKind::kDirectory);
  s.at(Step::kMount, index);
  const bool mounted = mount_here(s, mount, flags, target) == 0;
  let_go(target);
  if (mounted) forget_parent(s, mount);
  return mounted;
}

void mount_one(Stage& s, u32 index) {
  const MountEntry& mount = s.plan->mounts()[index];
  if (mount.kind == MountKind::kRemount) return remount(s, index);
  s.at(Step::kMount, index);
  int fd = s.sources[index];
  if (mount.kind == MountKind::kPodShm && fd < 0) s.fail(ENOENT);
  const bool fresh = fd < 0;
  if (fresh && !fits_fsconfig(s.plan->text(mount.data))) return mount_long(s, index);
  if (fresh && is_plain(s, mount) && mount_plainly(s, index)) return;
  if (fresh) fd = new_filesystem(s, mount);
  // As runc: what stands for /proc is one.
  if (!fresh && s.plan->text(mount.destination) == "/proc" && !on_procfs(s, fd)) s.fail(EXDEV);
  struct stat st = {};
  if (!fresh) s.check(fstat(fd, &st));
  const bool directory = fresh || S_ISDIR(st.st_mode);
  int target = open_target(s, index, directory ? TargetKind::kDirectory : TargetKind::kFile);
  if ((mount.flags & kMountCopyUp) != 0 && fresh) {
    s.at(Step::kCopyUp, index);
    copy_up(s, mount, target, fd);
  }
  s.at(Step::kMount, index);
  s.check(sys::move_mount(fd, target));
  let_go(target);
  forget_parent(s, mount);
  s.at(Step::kMountAttributes, index);
  if (fresh) finish_fresh(s, mount, fd);
  s.sources[index] = -1;
  if (fresh && is_written_first(s, mount))
    s.sources[index] = fd;
  else
    let_go(fd);
}

}  // namespace

void mount_all(Stage& s) {
  for (u32 i = 0; i < s.plan->mounts().size(); ++i) mount_one(s, i);
  if (s.plan->has_hook(HookKind::kCreateContainer)) s.check(chdir("/"));
}

void protect_mounts(Stage& s) {
  for (u32 i = 0; i < s.plan->mounts().size(); ++i) {
    if (s.sources[i] < 0) continue;
    s.at(Step::kMountAttributes, i);
    s.check(sys::mount_setattr(s.sources[i], "", uapi::kAtEmptyPath, {uapi::kMountAttrRdonly, 0, 0, 0}));
    let_go(s.sources[i]);
    s.sources[i] = -1;
  }
}

}  // namespace caisson
