// Masked and read-only paths.
#include "core/stage/stage.h"

namespace caisson {

namespace {

// -1: there is nothing to protect.
int open_existing(Stage& s, const char* path) {
  int fd = sys::openat2(s.root, path, O_PATH, 0, uapi::kResolveInRoot | uapi::kResolveNoMagiclinks);
  if (fd < 0 && errno != ENOENT && errno != ENOTDIR) s.fail(errno);
  return fd;
}

// The first cover is the detached mount itself; further ones are clones of it where it is now attached (before 6.15 a
// detached mount cannot be cloned). One superblock serves all.
void cover(Stage& s, int mount, bool& attached, int target) {
  int fd = mount;
  if (attached) fd = s.check(sys::open_tree(mount, "", uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath}));
  s.check(sys::move_mount(fd, target));
  if (attached) let_go(fd);
  attached = true;
}

int empty_directory(Stage& s) {
  int fs = s.check(sys::fsopen("tmpfs"));
  s.check(sys::fsconfig_string(fs, "source", "tmpfs"));
  s.check(sys::fsconfig_string(fs, "size", "4k"));
  s.check(sys::fsconfig_string(fs, "mode", "0555"));
  if (s.label) s.check(sys::fsconfig_string(fs, "context", s.mount_label()));
  s.check(sys::fsconfig_create(fs));
  int fd = s.check(sys::fsmount(
      fs, uapi::kMountAttrRdonly | uapi::kMountAttrNosuid | uapi::kMountAttrNodev | uapi::kMountAttrNoexec));
  let_go(fs);
  return fd;
}

}  // namespace

void mask_paths(Stage& s) {
  int directory = -1;
  bool directory_attached = false;
  bool null_attached = false;
  span<const Str> masked = s.plan->masked();
  for (u32 i = 0; i < masked.size(); ++i) {
    s.at(Step::kMask, i);
    int target = open_existing(s, s.plan->c_str(masked[i]));
    if (target < 0) continue;
    struct stat st = {};
    s.check(fstat(target, &st));
    if (S_ISDIR(st.st_mode)) {
      if (directory < 0) directory = empty_directory(s);
      cover(s, directory, directory_attached, target);
    } else {
      cover(s, s.null, null_attached, target);
    }
    let_go(target);
  }
  if (directory >= 0) let_go(directory);
}

void make_readonly(Stage& s) {
  protect_mounts(s);
  span<const Str> paths = s.plan->readonly_paths();
  for (u32 i = 0; i < paths.size(); ++i) {
    s.at(Step::kReadonlyPath, i);
    int target = open_existing(s, s.plan->c_str(paths[i]));
    if (target < 0) continue;
    int fd =
        s.check(sys::open_tree(target, "", uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath | uapi::kAtRecursive}));
    s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath | uapi::kAtRecursive, {uapi::kMountAttrRdonly, 0, 0, 0}));
    s.check(sys::move_mount(fd, target));
    let_go(fd);
    let_go(target);
  }
}

}  // namespace caisson
