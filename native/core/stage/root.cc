// The root file system: an overlay of layers, or a bind of a directory.
#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr u64 kNoSetuidFixup = 1 << 2;  // SECBIT_NO_SETUID_FIXUP, capabilities(7)

constexpr size_t kOptionsMax = 4096;  // a page: the most that mount(2) takes

// What is written with them, whatever the module's parameters say:
// - index=off: an upper directory is used by one mount, once; hard links of layers break on copy-up, as everywhere
// else.
// - redirect_dir=nofollow, metacopy=off: a file of the upper directory is whole, so that it is a layer as it stands,
// and
//   what a layer says of other places (trusted.overlay.redirect; never unpacked) is not followed.
// - no userxattr: the mounter is root of the initial user namespace, in a pod with a user namespace too.
constexpr char kFixed[] = ",index=off,redirect_dir=nofollow,metacopy=off";

class Options {
 public:
  void put(string_view text) {
    if (whole() && text.size() < sizeof text_ - used_) {
      memcpy(text_ + used_, text.data(), text.size());
      text_[used_ + text.size()] = '\0';
    }
    used_ += text.size();
  }
  bool whole() const { return used_ < sizeof text_; }
  bool fits(size_t more) const { return used_ + more < sizeof text_; }
  const char* text() const { return text_; }

 private:
  char text_[kOptionsMax] = {};
  size_t used_ = 0;
};

// A file system of one SELinux context, whatever its layers have on the disk, which is the mounter's to reach. Quoted,
// for categories are listed with commas.
void put_label(Stage& s, Options& options) {
  if (!s.label) return;
  options.put(",context=\"");
  options.put(s.mount_label());
  options.put("\"");
}

void put_rest(Stage& s, Options& options) {
  if (s.upper >= 0) options.put(",upperdir=/u/upper,workdir=/u/work");
  options.put(kFixed);
  if (s.upper >= 0 && (s.plan->root().flags & kRootVolatile) != 0) options.put(",volatile");
  put_label(s, options);
}

// Layers are named relative to the directory that holds them all, for mount(2) takes a page of options and fsconfig(2)
// 256 bytes a string: some 140 names of 26 characters fit.
bool name_layers(Stage& s, span<const Str> layers, Options& options) {
  options.put("lowerdir=");
  for (u32 i = 0; i < layers.size(); ++i) {
    if (i != 0) options.put(":");
    options.put(s.plan->text(layers[i]));
  }
  return options.whole();
}

// More layers get links of two characters, in a tmpfs below the root to be: 500, the most that overlayfs stacks
// (OVL_MAX_STACK), take 1.5 KiB. lowerdir+ (6.7), and layers by descriptor (6.13), would need a second way on 6.1.
void link_layers(Stage& s, span<const Str> layers, Options& options) {
  constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  s.at(Step::kLinkLayers);
  int fs = s.check(sys::fsopen("tmpfs"));
  s.check(sys::fsconfig_string(fs, "mode", "0755"));
  s.check(sys::fsconfig_create(fs));
  int links = s.check(sys::fsmount(fs, uapi::kMountAttrNosuid | uapi::kMountAttrNodev | uapi::kMountAttrNoexec));
  close(fs);
  s.check(sys::move_mount_at(links, kSeedRoot));
  options.put("lowerdir=");
  for (u32 i = 0; i < layers.size(); ++i) {
    char target[sizeof kSeedLayers + 256];
    const string_view name = s.plan->text(layers[i]);
    if (name.size() > 255) s.fail(ENAMETOOLONG);
    memcpy(target, kSeedLayers, sizeof kSeedLayers - 1);
    target[sizeof kSeedLayers - 1] = '/';
    memcpy(target + sizeof kSeedLayers, name.data(), name.size());
    target[sizeof kSeedLayers + name.size()] = '\0';
    const char link[] = {kDigits[i / 36], kDigits[i % 36], '\0'};
    s.check(symlinkat(target, links, link));
    if (i != 0) options.put(":");
    options.put(link);
  }
  s.check(fchdir(links));
  close(links);
}

// What is appended to the names of layers: at most 128 bytes, besides the label.
constexpr size_t kRestMax = 128;

// Names in the working directory, which is that of the layers, or of links to them. True if that took a file system of
// links, at kSeedRoot.
bool choose_names(Stage& s, span<const Str> layers, Options& options) {
  s.check(chdir(kSeedLayers));
  const size_t label = s.label ? sizeof ",context=\"\"" + s.plan->head().mount_label.length : 0;
  if (name_layers(s, layers, options) && options.fits(kRestMax + label)) return false;
  options = Options();
  link_layers(s, layers, options);
  return true;
}

// Mounts a layer that is not unpacked over its own directory. `number`: of Stage::lowers.
void attach_layer(Stage& s, u32 number, string_view name) {
  s.at(Step::kMountLayer, number);
  char target[sizeof kSeedLayers + 256] = {};
  if (name.size() > 255) s.fail(ENAMETOOLONG);
  memcpy(target, kSeedLayers, sizeof kSeedLayers - 1);
  target[sizeof kSeedLayers - 1] = '/';
  memcpy(target + sizeof kSeedLayers, name.data(), name.size());
  s.check(sys::move_mount_at(s.lowers[number], target));
}

void mount_overlay(Stage& s) {
  s.at(Step::kAttachRoot);
  s.check(sys::move_mount_at(s.layers, kSeedLayers));
  const span<const u32> mounted = s.plan->erofs_layers();
  for (u32 i = 0; i < mounted.size(); ++i) attach_layer(s, i, s.plan->text(s.plan->layers()[mounted[i]]));
  s.at(Step::kAttachRoot);
  if (s.upper >= 0) s.check(sys::move_mount_at(s.upper, kSeedUpper));
  Options options;
  choose_names(s, s.plan->layers(), options);
  put_rest(s, options);
  if (!options.whole()) s.fail(E2BIG);
  s.at(Step::kMountOverlay);
  if (s.has_user_namespace()) {
    // Overlayfs acts with the credentials of its mounter. Through an idmapped upper directory only a mapped id can make
    // files (EOVERFLOW), so the mounter is the container's root with all the capabilities of the host's.
    s.check(sys::prctl(uapi::kPrSetSecurebits, kNoSetuidFixup));
    syscall(SYS_setfsgid, s.host_gid);
    syscall(SYS_setfsuid, s.host_uid);
  }
  s.check(sys::mount("overlay", kSeedRoot, "overlay", 0, options.text()));
  if (s.has_user_namespace()) {
    syscall(SYS_setfsuid, 0);
    syscall(SYS_setfsgid, 0);
    s.check(sys::prctl(uapi::kPrSetSecurebits, 0));
  }
  s.check(chdir("/"));
}

// The directory or file that an image volume shows, as a clone of its own: `path` never leaves the image, whatever
// links are in it.
int clone_inside(Stage& s, const char* path, u32 index) {
  if (*path == '\0') return s.check(sys::open_tree(AT_FDCWD, kSeedRoot, uapi::kOpenTreeClone));
  s.at(Step::kImageSubPath, index);
  int root = s.check(open(kSeedRoot, O_PATH | O_DIRECTORY | O_CLOEXEC));
  int found = s.check(sys::openat2(root, path, O_PATH, 0, uapi::kResolveInRoot | uapi::kResolveNoMagiclinks));
  int clone = s.check(sys::open_tree(found, "", uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath}));
  close(found);
  close(root);
  return clone;
}

// An overlay of the layers, mounted where the root will be, cloned, and taken away again: the clone is the source of
// the mount.
void mount_image_volume(Stage& s, u32 index) {
  const MountEntry& mount = s.plan->mounts()[index];
  s.at(Step::kImageVolume, index);
  s.check(sys::move_mount_at(s.sources[index], kSeedLayers));
  const span<const u32> mounted = s.plan->erofs_image_layers();
  for (u32 i = 0; i < mounted.size(); ++i) {
    if (mounted[i] - mount.layer_first >= mount.layer_count) continue;
    attach_layer(s, static_cast<u32>(s.plan->erofs_layers().size()) + i, s.plan->text(s.plan->image_layer(mounted[i])));
  }
  s.at(Step::kImageVolume, index);
  Options options;
  const bool linked = choose_names(s, s.plan->image_layers(mount), options);
  options.put(kFixed);
  put_label(s, options);
  if (!options.whole()) s.fail(E2BIG);
  s.at(Step::kImageVolume, index);
  s.check(sys::mount("overlay", kSeedRoot, "overlay", uapi::kMsRdonly, options.text()));
  s.check(chdir("/"));
  int clone = clone_inside(s, s.plan->c_str(mount.data), index);
  s.at(Step::kImageVolume, index);
  for (const char* point : {kSeedRoot, linked ? kSeedRoot : "", kSeedLayers})
    if (*point != '\0') s.check(sys::umount2(point, uapi::kMntDetach));
  close(s.sources[index]);
  s.sources[index] = clone;
  constexpr u64 kContent = uapi::kMountAttrRdonly | uapi::kMountAttrNosuid | uapi::kMountAttrNodev;
  s.check(sys::mount_setattr(clone, "", uapi::kAtEmptyPath,
                             {mount.attr_set | mount.recursive_set | kContent, 0, uapi::kMsPrivate, 0}));
}

const char* root_point(const Stage& s) {
  if (s.in_bundle()) return s.plan->c_str(s.plan->root().point);
  return s.in_place() ? s.plan->c_str(s.plan->root().path) : kSeedRoot;
}

}  // namespace

void assemble_root(Stage& s) {
  for (u32 i = 0; i < s.plan->mounts().size(); ++i)
    if (s.plan->mounts()[i].kind == MountKind::kImage) mount_image_volume(s, i);
  bool overlay = s.plan->root().kind == RootKind::kOverlay;
  if (overlay) mount_overlay(s);
  s.at(Step::kAttachRoot);
  if (s.has_user_namespace() || s.in_bundle()) {
    // A copy of an attached mount would be locked in the namespace of stage 2, and a locked mount cannot be pivoted to.
    // What is attached here, another mount namespace could not take over.
    if (overlay) s.root = s.check(sys::open_tree(AT_FDCWD, kSeedRoot, uapi::kOpenTreeClone));
    return;
  }
  if (!overlay) return attach_root(s);
  s.root = s.check(open(kSeedRoot, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

void attach_root(Stage& s) {
  s.at(Step::kAttachRoot);
  s.check(sys::move_mount_at(s.root, root_point(s)));
}

void enter_root(Stage& s, int root) {
  s.at(Step::kPivotRoot);
  s.check(fchdir(root));
  s.check(chroot("."));
  s.check(chdir("/"));
}

void take_root_along(Stage& s) {
  s.at(Step::kAttachRoot);
  constexpr unsigned kTree = uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath | uapi::kAtRecursive};
  int tree = s.check(sys::open_tree(s.root, "", kTree));
  // With this process the namespace ends that the root was put together in. The tree stays whole when its descriptor is
  // closed (dissolve_on_fput(): unmounted, and connected).
  join_namespace(s, NamespaceType::kMount);
  enter_root(s, tree);
  close(s.root);
  s.root = tree;
}

void pivot(Stage& s) {
  const RootEntry& root = s.plan->root();
  if ((root.flags & kRootReadonly) != 0) {
    s.at(Step::kReadonlyRoot);
    s.check(sys::mount_setattr(s.root, "", uapi::kAtEmptyPath, {uapi::kMountAttrRdonly, 0, 0, 0}));
  }
  if (s.ns(NamespaceType::kMount) >= 0) return take_root_along(s);
  s.at(Step::kPivotRoot);
  s.check(fchdir(s.root));
  if ((root.flags & kRootNoPivot) != 0) {
    // What lies below the new root stays mounted there; nothing of it can be reached by a path.
    s.check(sys::move_mount_at(s.root, "/"));
    s.check(chroot("."));
  } else {
    // pivot_root(2), "pivot_root(".", ".")": the old root ends on top of the new one and is taken off.
    s.check(sys::pivot_root(".", "."));
    s.check(sys::umount2(".", uapi::kMntDetach));
  }
  s.check(chdir("/"));
  // A new root is private, or a slave of what it is a clone of. The recursive forms are for all mounts of the
  // container.
  if ((root.propagation & (uapi::kMsShared | uapi::kMsUnbindable)) != 0) {
    s.at(Step::kRootPropagation);
    int flags = uapi::kAtEmptyPath | ((root.propagation & uapi::kMsRec) != 0 ? uapi::kAtRecursive : 0);
    s.check(sys::mount_setattr(s.root, "", flags, {0, 0, root.propagation & ~uapi::kMsRec, 0}));
  }
}

}  // namespace caisson
