// The root file system: an overlay of layers, or a bind of a directory.
#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr u64 kNoSetuidFixup = 1 << 2;  // SECBIT_NO_SETUID_FIXUP, capabilities(7)
constexpr int kPrSetSecurebits = 28;

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
  const char* text() const { return text_; }

 private:
  char text_[kOptionsMax] = {};
  size_t used_ = 0;
};

void put_rest(Stage& s, Options& options) {
  if (s.upper >= 0) options.put(",upperdir=/u/upper,workdir=/u/work");
  options.put(kFixed);
  if (s.upper >= 0 && (s.plan->root().flags & kRootVolatile) != 0) options.put(",volatile");
}

// Layers are named relative to the directory that holds them all, for mount(2) takes a page of options and fsconfig(2)
// 256 bytes a string: some 140 names of 26 characters fit.
bool name_layers(Stage& s, Options& options) {
  options.put("lowerdir=");
  span<const Str> layers = s.plan->layers();
  for (u32 i = 0; i < layers.size(); ++i) {
    if (i != 0) options.put(":");
    options.put(s.plan->text(layers[i]));
  }
  put_rest(s, options);
  return options.whole();
}

// More layers get links of two characters, in a tmpfs below the root to be: 500, the most that overlayfs stacks
// (OVL_MAX_STACK), take 1.5 KiB. lowerdir+ (6.7), and layers by descriptor (6.13), would need a second way on 6.1.
void link_layers(Stage& s, Options& options) {
  constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  s.at(Step::kLinkLayers);
  int fs = s.check(sys::fsopen("tmpfs"));
  s.check(sys::fsconfig_string(fs, "mode", "0755"));
  s.check(sys::fsconfig_create(fs));
  int links = s.check(sys::fsmount(fs, uapi::kMountAttrNosuid | uapi::kMountAttrNodev | uapi::kMountAttrNoexec));
  close(fs);
  s.check(sys::move_mount_at(links, kSeedRoot));
  options.put("lowerdir=");
  span<const Str> layers = s.plan->layers();
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
  put_rest(s, options);
  if (!options.whole()) s.fail(E2BIG);
  s.check(fchdir(links));
  close(links);
}

void mount_overlay(Stage& s) {
  s.at(Step::kAttachRoot);
  s.check(sys::move_mount_at(s.layers, kSeedLayers));
  if (s.upper >= 0) s.check(sys::move_mount_at(s.upper, kSeedUpper));
  s.check(chdir(kSeedLayers));
  Options options;
  if (!name_layers(s, options)) {
    options = Options();
    link_layers(s, options);
  }
  s.at(Step::kMountOverlay);
  if (s.has_user_namespace()) {
    // Overlayfs acts with the credentials of its mounter. Through an idmapped upper directory only a mapped id can make
    // files (EOVERFLOW), so the mounter is the container's root with all the capabilities of the host's.
    s.check(sys::prctl(kPrSetSecurebits, kNoSetuidFixup));
    syscall(SYS_setfsgid, s.host_gid);
    syscall(SYS_setfsuid, s.host_uid);
  }
  s.check(sys::mount("overlay", kSeedRoot, "overlay", 0, options.text()));
  if (s.has_user_namespace()) {
    syscall(SYS_setfsuid, 0);
    syscall(SYS_setfsgid, 0);
    s.check(sys::prctl(kPrSetSecurebits, 0));
  }
  s.check(chdir("/"));
}

const char* root_point(const Stage& s) { return s.in_place() ? s.plan->c_str(s.plan->root().path) : kSeedRoot; }

}  // namespace

void assemble_root(Stage& s) {
  bool overlay = s.plan->root().kind == RootKind::kOverlay;
  if (overlay) mount_overlay(s);
  s.at(Step::kAttachRoot);
  if (s.has_user_namespace()) {
    // A copy of an attached mount would be locked in the namespace of stage 2, and a locked mount cannot be pivoted to.
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
