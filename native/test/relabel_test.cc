// Labels of a volume: everything in it, nothing that a link in it names. Where no module keeps them, labels are
// attributes like any other.
#include <stdlib.h>
#include <sys/xattr.h>

#include "check.h"
#include "core/stage/stage.h"
#include "core/sys.h"
#include "tree_files.h"

using namespace caisson;
using namespace caisson::test;

namespace {

constexpr char kAttribute[] = "security.selinux";
constexpr string_view kLabel = "system_u:object_r:container_file_t:s0:c1,c2";

// Of the working directory.
bool labelled(const char* name) {
  char value[128];
  const ssize_t n = lgetxattr(name, kAttribute, value, sizeof value);
  return n == static_cast<ssize_t>(kLabel.size()) + 1 && string_view(value) == kLabel;
}

void labels_all_of_it(int top) {
  const Fd outside = fresh(top, "outside");
  put(outside.get(), "secret", "x");
  const Fd volume = fresh(top, "volume");
  put(volume.get(), "file", "x");
  CHECK(mkdirat(volume.get(), "deep", 0700) == 0 && mkdirat(volume.get(), "deep/er", 0700) == 0);
  put(volume.get(), "deep/er/file", "x");
  CHECK(symlinkat("../outside", volume.get(), "directory") == 0);
  CHECK(symlinkat("../outside/secret", volume.get(), "link") == 0);
  CHECK(mkfifoat(volume.get(), "fifo", 0600) == 0);

  const unsigned flags = uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath | uapi::kAtRecursive};
  const Fd clone(sys::open_tree(volume.get(), "", flags));
  CHECK(relabel_tree(clone.get(), kLabel) == 0);
  CHECK(fchdir(top) == 0);
  for (const char* name : {"volume", "volume/file", "volume/deep", "volume/deep/er", "volume/deep/er/file",
                           "volume/directory", "volume/link", "volume/fifo"})
    CHECK(labelled(name));
  for (const char* name : {"outside", "outside/secret"}) CHECK(!labelled(name));

  struct stat before = {};
  struct stat after = {};
  CHECK(stat("volume/file", &before) == 0 && relabel_tree(clone.get(), kLabel) == 0);
  CHECK(fchdir(top) == 0 && stat("volume/file", &after) == 0);
  CHECK(before.st_ctim.tv_nsec == after.st_ctim.tv_nsec);  // what has its label is left alone

  const Fd file(sys::open_tree(outside.get(), "secret", uapi::kOpenTreeClone));
  CHECK(relabel_tree(file.get(), kLabel) == 0 && fchdir(top) == 0 && labelled("outside/secret"));
}

void leaves_the_host_alone(int top) {
  for (const char* path : {"/", "/etc", "/usr", "/var/lib", "/proc"})
    CHECK(is_of_host(Fd(open(path, O_PATH | O_CLOEXEC)).get()));
  CHECK(symlinkat("/etc", top, "etc") == 0);
  CHECK(is_of_host(Fd(openat(top, "etc", O_PATH | O_CLOEXEC)).get()));
  CHECK(!is_of_host(top));
}

void bounds_the_depth(int top) {
  Fd directory = fresh(top, "endless");
  const Fd root(openat(top, "endless", O_PATH | O_CLOEXEC));
  for (int i = 0; i < 600; ++i) directory = fresh(directory.get(), "d");
  CHECK(relabel_tree(root.get(), kLabel) == -1 && errno == ELOOP);
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    printf("needs root\n");
    return 0;
  }
  char path[] = "/tmp/caisson-relabel-XXXXXX";
  CHECK(mkdtemp(path) != nullptr);
  // in a file system that is certain to have attributes
  CHECK(sys::unshare(uapi::kCloneNewns) == 0);
  CHECK(sys::mount_setattr(AT_FDCWD, "/", uapi::kAtRecursive, {0, 0, uapi::kMsPrivate, 0}) == 0);
  CHECK(sys::mount("tmpfs", path, "tmpfs", 0, "mode=0700") == 0);
  const Fd top(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  labels_all_of_it(top.get());
  leaves_the_host_alone(top.get());
  bounds_the_depth(top.get());
  CHECK(chdir("/") == 0 && sys::umount2(path, uapi::kMntDetach) == 0 && rmdir(path) == 0);
  return caisson::test::done();
}
