// Sources of mounts, taken as detached clones in the host's mount namespace before anything is made private: so a
// shared volume keeps its peer group, and a symlink in a hostPath means what it means on the host.
#include <sys/sysmacros.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

void set_attributes(Stage& s, int fd, bool recursive, const uapi::MountAttr& attr) {
  if (attr.attr_set == 0 && attr.attr_clr == 0 && attr.propagation == 0) return;
  s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath | (recursive ? uapi::kAtRecursive : 0), attr));
}

// mkdir -p on the host, for a hostPath that the operator allowed to be made.
void make_host_directory(Stage& s, string_view path) {
  char buffer[kPlanPathMax + 1];
  for (size_t end = 1; end <= path.size(); ++end) {
    if (end != path.size() && path[end] != '/') continue;
    memcpy(buffer, path.data(), end);
    buffer[end] = '\0';
    if (mkdir(buffer, 0755) != 0 && errno != EEXIST) s.fail(errno);
  }
}

int open_source(Stage& s, const MountEntry& mount, u32 index) {
  s.at(Step::kOpenSource, index);
  const char* path = s.plan->c_str(mount.source);
  const bool check = (mount.flags & kMountCheckPropagation) != 0;
  const bool relabel = s.label && (mount.flags & kMountRelabel) != 0;
  const unsigned clone = uapi::kOpenTreeClone | (mount.flags & kMountRecursive ? unsigned{uapi::kAtRecursive} : 0u);
  const unsigned flags = check || relabel ? 0 : clone;
  int fd = sys::open_tree(AT_FDCWD, path, flags);
  if (fd < 0 && errno == ENOENT && (mount.flags & kMountCreateSource) != 0) {
    s.at(Step::kCreateSource, index);
    make_host_directory(s, s.plan->text(mount.source));
    s.at(Step::kOpenSource, index);
    fd = sys::open_tree(AT_FDCWD, path, flags);
  }
  s.check(fd);
  if (flags != 0) return fd;
  // A clone is a mount of its own, which mountinfo does not show: what it is made of is looked at.
  if (check) {
    s.at(Step::kSourcePropagation, index);
    const bool slave = (mount.flags & kMountSharedSlave) != 0;
    require_propagation(s, fd, slave ? uapi::kMsSlave : mount.propagation & ~uapi::kMsRec);
  }
  if (relabel) {
    s.at(Step::kRelabel, index);
    if (is_of_host(fd)) s.fail(EPERM);
  }
  s.at(Step::kOpenSource, index);
  int cloned = s.check(sys::open_tree(fd, "", clone | unsigned{uapi::kAtEmptyPath}));
  let_go(fd);
  if (relabel) {
    s.at(Step::kRelabel, index);
    s.check(relabel_tree(cloned, s.plan->text(s.plan->head().mount_label)));
  }
  return cloned;
}

// A mount of cgroup2 without a cgroup namespace shows the host's whole tree, and a user namespace may not make one:
// only the container's own part of it is given (CVE-2023-25809).
bool is_bare_cgroup(const Stage& s, const MountEntry& mount) {
  return s.drive == nullptr && mount.kind == MountKind::kFilesystem && s.plan->text(mount.fstype) == "cgroup2" &&
         (s.cgroup >= 0 || s.has_user_namespace()) &&
         s.plan->head().ns(NamespaceType::kCgroup).mode == NamespaceMode::kHost;
}

void open_device(Stage& s, u32 index) {
  const DeviceEntry& device = s.plan->devices()[index];
  s.at(Step::kOpenDevice, index);
  const char* path = s.plan->c_str(device.source.length != 0 ? device.source : device.path);
  int fd = s.check(sys::open_tree(AT_FDCWD, path, uapi::kOpenTreeClone));
  struct stat st = {};
  s.check(fstat(fd, &st));
  if ((st.st_mode & S_IFMT) != device.type || st.st_rdev != makedev(device.major, device.minor)) s.fail(ENODEV);
  // A peer of the host's /dev: what the container mounts over its node would cover the host's.
  set_attributes(s, fd, false, {0, 0, uapi::kMsPrivate, 0});
  s.devices[index] = fd;
}

// Overlayfs takes idmapped layers since 5.19; the mapping is set before the mount is attached anywhere.
void idmap_layers(Stage& s, int mount) {
  if (!s.has_user_namespace()) return;
  s.at(Step::kIdmapLayers);
  set_attributes(s, mount, false, {uapi::kMountAttrIdmap, 0, 0, static_cast<u64>(s.ns(NamespaceType::kUser))});
}

void open_root(Stage& s) {
  const RootEntry& root = s.plan->root();
  uapi::MountAttr priv = {0, 0, uapi::kMsPrivate, 0};
  if (root.kind == RootKind::kBind) {
    s.at(Step::kOpenRoot);
    s.root = s.check(
        sys::open_tree(AT_FDCWD, s.plan->c_str(root.path), uapi::kOpenTreeClone | unsigned{uapi::kAtRecursive}));
    // A slave receives from the host. Any other root is nobody's peer, least of all one that is to be shared: what is
    // mounted in the container would appear on the host.
    if ((root.propagation & uapi::kMsSlave) != 0) priv.propagation = uapi::kMsSlave;
    set_attributes(s, s.root, true, priv);
    if ((root.flags & kRootIdmap) == 0) return;
    if (s.label) {
      s.at(Step::kRelabelRoot);
      s.check(relabel_tree(s.root, s.mount_label()));
    }
    idmap_layers(s, s.root);
    return;
  }
  if (root.kind == RootKind::kDevice) {
    return idmap_layers(s, s.root);
  }
  s.at(Step::kOpenLayers);
  s.layers = s.check(sys::open_tree(AT_FDCWD, s.plan->c_str(root.path), uapi::kOpenTreeClone));
  s.at(Step::kOpenUpper);
  if (root.upper.length != 0 && (root.flags & kRootUpperImage) == 0)
    s.upper = s.check(sys::open_tree(AT_FDCWD, s.plan->c_str(root.upper), uapi::kOpenTreeClone));
  idmap_layers(s, s.layers);
  if (!s.plan->erofs_layers().empty()) set_attributes(s, s.layers, false, priv);
  if (s.upper >= 0) idmap_layers(s, s.upper);
}

}  // namespace

void open_mount_sources(Stage& s) {
  // A volume whose options do not say is private, unless all of the root is to receive from the host.
  constexpr u64 kReceives = uapi::kMsSlave | uapi::kMsRec;
  const u64 unsaid = s.plan->root().propagation == kReceives ? uapi::kMsSlave : uapi::kMsPrivate;
  span<const MountEntry> mounts = s.plan->mounts();
  for (u32 i = 0; i < mounts.size(); ++i) {
    const MountEntry& mount = mounts[i];
    s.sources[i] = -1;
    if (mount.kind == MountKind::kImage) {
      s.at(Step::kImageVolume, i);
      s.sources[i] = s.check(sys::open_tree(AT_FDCWD, s.plan->c_str(mount.source), uapi::kOpenTreeClone));
      idmap_layers(s, s.sources[i]);
      // What is mounted in a peer of the host's would be mounted on the host.
      if (!s.plan->erofs_image_layers().empty()) set_attributes(s, s.sources[i], false, {0, 0, uapi::kMsPrivate, 0});
      continue;
    }
    bool bare_cgroup = is_bare_cgroup(s, mount);
    if (mount.kind != MountKind::kBind && !bare_cgroup) continue;
    int fd = -1;
    if (bare_cgroup) {
      s.at(Step::kOpenSource, i);
      fd = clone_own_cgroup(s);
    } else {
      fd = open_source(s, mount, i);
    }
    if ((mount.flags & (kMountIdmap | kMountIdmapRecursive)) != 0) {
      s.at(Step::kIdmapSource, i);
      const bool own = (mount.flags & kMountOwnMappings) != 0;
      const int mappings = own ? s.idmaps[i] : s.ns(NamespaceType::kUser);
      if (mappings < 0) s.fail(EBADF);  // no plan of the compiler's
      uapi::MountAttr idmap = {uapi::kMountAttrIdmap, 0, 0, static_cast<u64>(mappings)};
      set_attributes(s, fd, (mount.flags & kMountIdmapRecursive) != 0, idmap);
    }
    s.at(Step::kMountAttributes, i);
    set_attributes(s, fd, false, {mount.attr_set, mount.attr_clr, 0, 0});
    set_attributes(s, fd, true, {mount.recursive_set, mount.recursive_clr, 0, 0});
    // A cgroup that nobody made for the container is not the container's to change.
    if (bare_cgroup && s.cgroup < 0) set_attributes(s, fd, false, {uapi::kMountAttrRdonly, 0, 0, 0});
    // MS_SHARED leaves a clone in the peer group of its source: that is what makes a volume Bidirectional.
    if (mount.propagation == 0) {
      set_attributes(s, fd, true, {0, 0, unsaid, 0});
    } else {
      // A word for the mount alone says nothing of those below it: as under runc they receive, and never hand on to the
      // host.
      if ((mount.propagation & (uapi::kMsRec | uapi::kMsShared)) == 0)
        set_attributes(s, fd, true, {0, 0, uapi::kMsSlave, 0});
      set_propagation(s, fd, mount);
    }
    s.sources[i] = fd;
  }
}

void open_sources(Stage& s) {
  open_root(s);
  for (u32 i = 0; i < s.plan->mounted_layers(); ++i) idmap_layers(s, s.lowers[i]);
  open_mount_sources(s);
  if (s.lends_devices()) {
    for (u32 i = 0; i < s.plan->devices().size(); ++i) {
      if (s.plan->devices()[i].type != S_IFIFO) open_device(s, i);
    }
  }
  if (!s.plan->masked().empty()) {
    // CVE-2025-31133: the mask is the host's /dev/null, verified, never one that the container could replace.
    s.at(Step::kMask);
    s.null = s.check(sys::open_tree(AT_FDCWD, "/dev/null", uapi::kOpenTreeClone));
    struct stat st = {};
    s.check(fstat(s.null, &st));
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) s.fail(ENODEV);
    // Its inode is the host's: read-only, or a container's root could change the mode of the host's /dev/null through a
    // mask. Writing to a device takes no writable mount.
    set_attributes(s, s.null, false,
                   {uapi::kMountAttrRdonly | uapi::kMountAttrNosuid | uapi::kMountAttrNoexec, 0, uapi::kMsPrivate, 0});
  }
}

}  // namespace caisson
