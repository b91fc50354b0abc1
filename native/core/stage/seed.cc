// The seed mount namespace: what every start of a pod begins from, so that no start copies the host's mount table and
// nothing is ever attached to it.
#include "core/stage/stage.h"

namespace caisson {

namespace {

// Attaches a new file system at `path`.
int attach(const char* type, const char* path, u64 attrs, span<const char* const> options) {
  int fs = sys::fsopen(type);
  if (fs < 0) return -1;
  int result = sys::fsconfig_string(fs, "source", type);
  for (size_t i = 0; result == 0 && i + 1 < options.size(); i += 2)
    result = sys::fsconfig_string(fs, options[i], options[i + 1]);
  if (result == 0) result = sys::fsconfig_create(fs);
  int fd = result == 0 ? sys::fsmount(fs, attrs) : -1;
  int err = errno;
  close(fs);
  if (fd >= 0 && sys::move_mount_at(fd, path) != 0) {
    err = errno;
    close(fd);
    fd = -1;
  }
  errno = err;
  return fd;
}

// The context is the last of the options.
span<const char* const> without_label(span<const char* const> options, const char* label) {
  return label != nullptr ? options : options.first(options.size() - 2);
}

// Replaces the root by the mount `fd`, which is attached in this namespace, and detaches everything else.
int replace_root(int fd) {
  if (fchdir(fd) != 0 || sys::pivot_root(".", ".") != 0 || sys::umount2(".", uapi::kMntDetach) != 0) return -1;
  return chdir("/");
}

void decimal(u64 value, char (&out)[24]) {
  char digits[24];
  size_t n = 0;
  do digits[n++] = static_cast<char>('0' + value % 10);
  while ((value /= 10) != 0);
  for (size_t i = 0; i < n; ++i) out[i] = digits[n - 1 - i];
  out[n] = '\0';
}

}  // namespace

int build_seed(u64 shm_size, u32 uid, u32 gid, const char* label) {
  // Before anything is attached: else it would appear on the host (its root is shared under systemd).
  uapi::MountAttr priv = {0, 0, uapi::kMsPrivate, 0};
  if (sys::mount_setattr(AT_FDCWD, "/", uapi::kAtRecursive, priv) != 0) return -1;
  constexpr u64 kPlain = uapi::kMountAttrNosuid | uapi::kMountAttrNodev | uapi::kMountAttrNoexec;
  // Searchable by the root of a user namespace too, to whom it belongs to nobody.
  const char* tiny[] = {"size", "64k", "mode", "0755"};
  int root = attach("tmpfs", "/proc", kPlain, tiny);
  if (root < 0) return -1;
  for (const char* name : {"r", "l", "u", "proc", "sys", "shm"}) {
    if (mkdirat(root, name, 0755) != 0) return -1;
  }
  if (replace_root(root) != 0) return -1;
  // A user namespace may mount its own proc and sysfs only where it already sees whole ones (mount_too_revealing).
  int proc = attach("proc", "/proc", kPlain, {});
  if (proc < 0) return -1;
  int sysfs = attach("sysfs", "/sys", kPlain, {});
  if (sysfs < 0) return -1;
  close(proc);
  close(sysfs);
  if (shm_size != 0) {
    char size[24];
    char owner[24];
    char group[24];
    decimal(shm_size, size);
    decimal(uid, owner);
    decimal(gid, group);
    const char* options[] = {"size", size, "mode", "1777", "uid", owner, "gid", group, "context", label};
    int shm = attach("tmpfs", kSeedShm, kPlain, without_label(options, label));
    if (shm < 0) return -1;
    close(shm);
  }
  uapi::MountAttr readonly = {uapi::kMountAttrRdonly, 0, 0, 0};
  int result = sys::mount_setattr(root, "", uapi::kAtEmptyPath, readonly);
  close(root);
  return result;
}

int build_empty_root(const char* label) {
  const char* tiny[] = {"size", "4k", "mode", "0555", "context", label};
  constexpr u64 kPlain =
      uapi::kMountAttrNosuid | uapi::kMountAttrNodev | uapi::kMountAttrNoexec | uapi::kMountAttrRdonly;
  int root = attach("tmpfs", kSeedRoot, kPlain, without_label(tiny, label));
  if (root < 0) return -1;
  int result = replace_root(root);
  close(root);
  return result;
}

void copy_host_tree(Stage& s) {
  s.at(Step::kUnshare, static_cast<u32>(NamespaceType::kMount));
  s.check(sys::unshare(uapi::kCloneNewns));
  // A slave: what the host unmounts must not stay busy here, and nothing that is mounted here reaches the host.
  s.at(Step::kRootPropagation);
  s.check(sys::mount_setattr(AT_FDCWD, "/", uapi::kAtRecursive, {0, 0, uapi::kMsSlave, 0}));
}

// Where the bundle is, no mapped root may search: what belongs to the service is covered by a tmpfs in which there is a
// way to the bundle and nothing else. Whole file systems of /proc and /sys are shown too (as by build_seed).
void return_in_bundle(Stage& s) {
  const RootEntry& root = s.plan->root();
  const char* bundle_path = s.plan->c_str(root.bundle);
  const size_t cover_length = root.cover.length;
  s.at(Step::kAttachRoot);
  int proc = -1;
  int sysfs = -1;
  if (s.has_user_namespace()) {
    proc = s.check(sys::open_tree(AT_FDCWD, "/proc", uapi::kOpenTreeClone));
    sysfs = s.check(sys::open_tree(AT_FDCWD, "/sys", uapi::kOpenTreeClone));
  }
  s.check(sys::setns(s.host_mounts, uapi::kCloneNewns));
  copy_host_tree(s);
  s.at(Step::kAttachRoot);
  const int bundle = s.check(sys::open_tree(AT_FDCWD, bundle_path, uapi::kOpenTreeClone));
  constexpr u64 kPlain = uapi::kMountAttrNosuid | uapi::kMountAttrNodev | uapi::kMountAttrNoexec;
  const char* tiny[] = {"size", "64k", "mode", "0755"};
  const int cover = s.check(attach("tmpfs", s.plan->c_str(root.cover), kPlain, tiny));
  char path[kPlanPathMax + 1];
  memcpy(path, bundle_path, root.bundle.length + 1);
  for (size_t at = cover_length + 1; at <= root.bundle.length; ++at) {
    if (path[at] != '/' && path[at] != '\0') continue;
    const char end = std::exchange(path[at], '\0');
    s.check(mkdirat(cover, path + cover_length + 1, 0755));
    path[at] = end;
  }
  s.check(sys::move_mount_at(bundle, bundle_path));
  if (s.has_user_namespace()) {
    for (auto [fd, name] : {std::pair{proc, "proc"}, std::pair{sysfs, "sys"}}) {
      s.check(mkdirat(cover, name, 0755));
      s.check(sys::move_mount(fd, "", cover, name, uapi::kMoveMountFEmptyPath));
      close(fd);
    }
  }
  close(bundle);
  close(cover);
}

void enter_seed(Stage& s) {
  if (s.seed >= 0) {
    s.at(Step::kJoinSeed);
    s.check(sys::setns(s.seed, uapi::kCloneNewns));
    // Clones of the pod's /dev/shm are taken here: a detached mount cannot be cloned again before 6.15.
    span<const MountEntry> mounts = s.plan->mounts();
    for (u32 i = 0; i < mounts.size(); ++i) {
      if (mounts[i].kind != MountKind::kPodShm) continue;
      s.at(Step::kShm, i);
      s.sources[i] = s.check(sys::open_tree(AT_FDCWD, kSeedShm, uapi::kOpenTreeClone));
      s.check(sys::mount_setattr(
          s.sources[i], "", uapi::kAtEmptyPath,
          {mounts[i].attr_set | mounts[i].recursive_set, mounts[i].attr_clr | mounts[i].recursive_clr, 0, 0}));
    }
    s.at(Step::kUnshare, static_cast<u32>(NamespaceType::kMount));
    s.check(sys::unshare(uapi::kCloneNewns));
    return;
  }
  s.at(Step::kUnshare, static_cast<u32>(NamespaceType::kMount));
  s.check(sys::unshare(uapi::kCloneNewns));
  s.at(Step::kJoinSeed);
  s.check(build_seed(0, 0, 0, nullptr));
}

}  // namespace caisson
