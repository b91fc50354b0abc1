// The root file system: an overlay of layers, or a bind of a directory.
#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr u64 kNoSetuidFixup = 1 << 2;  // SECBIT_NO_SETUID_FIXUP, capabilities(7)
constexpr int kPrSetSecurebits = 28;

// mount(2) takes 4096 bytes of options, fsconfig(2) 256 per string; several lowerdir+ need about 6.7. So the layers are
// named relative to one directory that holds them all: 127 names of 26 characters fit.
void overlay_options(Stage& s, char (&out)[4096]) {
  size_t used = 0;
  auto put = [&](string_view text) {
    if (text.size() >= sizeof out - used) s.fail(E2BIG);
    memcpy(out + used, text.data(), text.size());
    used += text.size();
    out[used] = '\0';
  };
  put("lowerdir=");
  span<const Str> layers = s.plan->layers();
  for (u32 i = 0; i < layers.size(); ++i) {
    if (i != 0) put(":");
    put(s.plan->text(layers[i]));
  }
  if (s.upper >= 0) put(",upperdir=../u/upper,workdir=../u/work");
}

void mount_overlay(Stage& s) {
  s.at(Step::kAttachRoot);
  s.check(sys::move_mount_at(s.layers, kSeedLayers));
  if (s.upper >= 0) s.check(sys::move_mount_at(s.upper, kSeedUpper));
  s.at(Step::kMountOverlay);
  s.check(chdir(kSeedLayers));
  char options[4096];
  overlay_options(s, options);
  if (s.has_user_namespace()) {
    // Overlayfs acts with the credentials of its mounter. Through an idmapped upper directory only a mapped id can make
    // files (EOVERFLOW), so the mounter is the container's root with all the capabilities of the host's.
    s.check(sys::prctl(kPrSetSecurebits, kNoSetuidFixup));
    syscall(SYS_setfsgid, s.host_gid);
    syscall(SYS_setfsuid, s.host_uid);
  }
  s.check(sys::mount("overlay", kSeedRoot, "overlay", 0, options));
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
