// The mounts of the plan: each is made or taken detached and attached by descriptor, so that no path is walked twice.
#include <sys/vfs.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

// "key=value,flag" to fsconfig(2), whose strings end at 256 bytes.
void configure(Stage& s, int fs, string_view data) {
  char option[512];
  while (!data.empty()) {
    size_t end = data.find(',');
    string_view option_text = part(data, 0, end);
    data = end == data.npos ? string_view() : part(data, end + 1);
    if (option_text.empty()) continue;
    if (option_text.size() >= sizeof option) s.fail(ENAMETOOLONG);
    memcpy(option, option_text.data(), option_text.size());
    option[option_text.size()] = '\0';
    size_t equals = option_text.find('=');
    if (equals == option_text.npos) {
      s.check(sys::fsconfig_flag(fs, option));
    } else {
      option[equals] = '\0';
      s.check(sys::fsconfig_string(fs, option, option + equals + 1));
    }
  }
}

struct SuperblockWord {
  u64 flag;
  const char* word;
};
constexpr SuperblockWord kSuperblockWords[] = {
    {uapi::kMsSynchronous, "sync"},
    {uapi::kMsDirsync, "dirsync"},
    {uapi::kMsMandlock, "mand"},
    {uapi::kMsLazytime, "lazytime"},
};

int new_filesystem(Stage& s, const MountEntry& mount) {
  int fs = s.check(sys::fsopen(s.plan->c_str(mount.fstype)));
  const char* source = s.plan->c_str(mount.source.length != 0 ? mount.source : mount.fstype);
  s.check(sys::fsconfig_string(fs, "source", source));
  for (const SuperblockWord& each : kSuperblockWords) {
    if ((mount.superblock & each.flag) != 0) s.check(sys::fsconfig_flag(fs, each.word));
  }
  configure(s, fs, s.plan->text(mount.data));
  s.check(sys::fsconfig_create(fs));
  // A copy-up writes first: read-only comes after.
  u64 attrs = (mount.flags & kMountCopyUp) != 0 ? mount.attr_set & ~uapi::kMountAttrRdonly : mount.attr_set;
  int fd = s.check(sys::fsmount(fs, attrs));
  close(fs);
  return fd;
}

bool is_kernel_tree(string_view type) { return type == "proc" || type == "sysfs" || type == "cgroup2"; }

int open_target(Stage& s, u32 index, TargetKind kind) {
  const MountEntry& mount = s.plan->mounts()[index];
  s.at(Step::kMountTarget, index);
  string_view path = s.plan->text(mount.destination);
  // CVE-2019-16884, CVE-2023-27561: an image whose /proc or /sys is a symlink must not decide where they end.
  bool follow =
      !is_protected(path) && !(mount.kind == MountKind::kFilesystem && is_kernel_tree(s.plan->text(mount.fstype)));
  return s.check(reach(s.root, path, kind, follow));
}

void change_flags(Stage& s, const MountEntry& mount, u32 index) {
  s.at(Step::kMountTarget, index);
  const char* path = s.plan->c_str(mount.destination);
  int fd = s.check(sys::openat2(s.root, path, O_PATH, 0, uapi::kResolveInRoot | uapi::kResolveNoMagiclinks));
  s.at(Step::kMountAttributes, index);
  s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath, {mount.attr_set, mount.attr_clr, 0, 0}));
  close(fd);
}

void mount_one(Stage& s, u32 index) {
  const MountEntry& mount = s.plan->mounts()[index];
  if (mount.kind == MountKind::kRemount) return change_flags(s, mount, index);
  s.at(Step::kMount, index);
  int fd = s.sources[index];
  if (mount.kind == MountKind::kPodShm && fd < 0) s.fail(ENOENT);
  bool fresh = fd < 0;
  if (fresh) fd = new_filesystem(s, mount);
  struct stat st = {};
  s.check(fstat(fd, &st));
  TargetKind kind = S_ISDIR(st.st_mode) ? TargetKind::kDirectory : TargetKind::kFile;
  int target = open_target(s, index, kind);
  if ((mount.flags & kMountCopyUp) != 0 && fresh) {
    s.at(Step::kCopyUp, index);
    s.check(copy_tree(target, fd, 0));
    if ((mount.attr_set & uapi::kMountAttrRdonly) != 0)
      s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath, {uapi::kMountAttrRdonly, 0, 0, 0}));
  }
  s.at(Step::kMount, index);
  s.check(sys::move_mount(fd, target));
  s.at(Step::kMountAttributes, index);
  if (fresh && (mount.recursive_set | mount.recursive_clr) != 0)
    s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath, {mount.recursive_set, mount.recursive_clr, 0, 0}));
  if (fresh && mount.propagation != 0)
    s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath, {0, 0, mount.propagation & ~uapi::kMsRec, 0}));
  close(target);
  close(fd);
}

}  // namespace

void mount_all(Stage& s) {
  for (u32 i = 0; i < s.plan->mounts().size(); ++i) mount_one(s, i);
}

}  // namespace caisson
