// Trees cloned, applied as layers, and found different: against each other, for all kinds of files.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "core/path.h"
#include "core/tree/clone_tree.h"
#include "core/tree/diff_tree.h"
#include "tree_files.h"

using namespace caisson;
using namespace caisson::test;

namespace {

const Cancellation kGoOn;

bool absent(int dir, const char* name) { return stat_of(dir, name).st_mode == 0; }

bool whiteout(int dir, const char* name) {
  const struct stat st = stat_of(dir, name);
  return S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

timespec long_ago() { return {0, 0}; }
timespec far_ahead() { return {i64{1} << 40, 0}; }

void fill(int dir) {
  put(dir, "file", "text");
  CHECK(fchownat(dir, "file", 3, 4, 0) == 0 && fchmodat(dir, "file", 06755, 0) == 0);
  CHECK(linkat(dir, "file", dir, "twin", 0) == 0);
  CHECK(symlinkat("/somewhere/else", dir, "link") == 0 && fchownat(dir, "link", 5, 6, AT_SYMLINK_NOFOLLOW) == 0);
  CHECK(mkfifoat(dir, "fifo", 0620) == 0);
  CHECK(mknodat(dir, "device", S_IFCHR | 0600, makedev(1, 3)) == 0);
  CHECK(mkdirat(dir, "dir", 0751) == 0);
  put(dir, "dir/inner", "inner");
  Fd sparse(openat(dir, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  CHECK(pwrite(sparse.get(), "end", 3, 64 << 20) == 3);
  Fd file(openat(dir, "file", O_RDONLY | O_CLOEXEC));
  CHECK(fsetxattr(file.get(), "user.note", "value", 5, 0) == 0);
  Fd inner(openat(dir, "dir", O_RDONLY | O_CLOEXEC));
  CHECK(fsetxattr(inner.get(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  CHECK(fsetxattr(inner.get(), "trusted.overlay.origin", "o", 1, 0) == 0);
  const timespec times[2] = {{1, 2}, {1'000'000'000, 123'456'789}};
  for (const char* name : {"file", "link", "fifo", "device", "dir", "sparse"})
    CHECK(utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) == 0);
}

void test_clone(int top) {
  Fd from = fresh(top, "from");
  fill(from.get());
  Fd to = fresh(top, "to");
  auto cloned = clone_tree(from.get(), to.get(), CloneKind::kLayer, kGoOn);
  CHECK(cloned && cloned->entries == 8);
  for (const char* name : {"file", "link", "fifo", "device", "dir", "sparse", "dir/inner"}) {
    const struct stat a = stat_of(from.get(), name);
    const struct stat b = stat_of(to.get(), name);
    CHECK(a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_nlink == b.st_nlink);
    CHECK(a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec && a.st_rdev == b.st_rdev);
    CHECK(S_ISDIR(a.st_mode) || a.st_size == b.st_size);
  }
  CHECK(stat_of(to.get(), "file").st_ino == stat_of(to.get(), "twin").st_ino);
  CHECK(holds(to.get(), "file", "text") && holds(to.get(), "dir/inner", "inner"));
  CHECK(stat_of(to.get(), "sparse").st_blocks < 64);  // the hole takes nothing
  char value[8];
  Fd file(openat(to.get(), "file", O_RDONLY | O_CLOEXEC));
  CHECK(fgetxattr(file.get(), "user.note", value, sizeof value) == 5);
  Fd dir(openat(to.get(), "dir", O_RDONLY | O_CLOEXEC));
  CHECK(fgetxattr(dir.get(), "trusted.overlay.opaque", value, sizeof value) == 1);
  CHECK(fgetxattr(dir.get(), "trusted.overlay.origin", value, sizeof value) < 0);

  const int lowers[] = {from.get()};
  Fd nothing = fresh(top, "nothing");
  auto same = diff_tree(lowers, to.get(), nothing.get(), long_ago(), kGoOn);
  CHECK(same && same->entries == 0);
  CHECK(absent(nothing.get(), "dir") && absent(nothing.get(), "file"));

  Cancellation over;
  over.cancel();
  Fd rest = fresh(top, "rest");
  CHECK(clone_tree(from.get(), rest.get(), CloneKind::kLayer, over).error().err == ECANCELED);
  CHECK(diff_tree(lowers, to.get(), rest.get(), long_ago(), over).error().err == ECANCELED);
}

void test_apply(int top) {
  Fd tree = fresh(top, "tree");
  for (const char* name : {"gone", "kept", "becomes-dir"}) put(tree.get(), name, name);
  for (const char* name : {"merged", "replaced", "becomes-file"}) {
    CHECK(mkdirat(tree.get(), name, 0700) == 0);
    Fd dir(openat(tree.get(), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    put(dir.get(), "old", "old");
    CHECK(fsetxattr(dir.get(), "user.old", "1", 1, 0) == 0);
  }
  Fd layer = fresh(top, "layer");
  CHECK(mknodat(layer.get(), "gone", S_IFCHR, 0) == 0 && mknodat(layer.get(), "never", S_IFCHR, 0) == 0);
  for (const char* name : {"merged", "replaced", "becomes-dir"}) {
    CHECK(mkdirat(layer.get(), name, 0755) == 0);
    Fd dir(openat(layer.get(), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    put(dir.get(), "new", "new");
  }
  Fd replaced(openat(layer.get(), "replaced", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(fsetxattr(replaced.get(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  put(layer.get(), "becomes-file", "file");
  CHECK(clone_tree(layer.get(), tree.get(), CloneKind::kApply, kGoOn));
  CHECK(absent(tree.get(), "gone") && absent(tree.get(), "never") && holds(tree.get(), "kept", "kept"));
  CHECK(holds(tree.get(), "merged/old", "old") && holds(tree.get(), "merged/new", "new"));
  CHECK(absent(tree.get(), "replaced/old") && holds(tree.get(), "replaced/new", "new"));
  CHECK(holds(tree.get(), "becomes-dir/new", "new") && holds(tree.get(), "becomes-file", "file"));
  char value[8];
  Fd merged(openat(tree.get(), "merged", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(fgetxattr(merged.get(), "user.old", value, sizeof value) < 0 &&
        stat_of(tree.get(), "merged").st_mode == (S_IFDIR | 0755));
}

// What applies to the lowers gives the tree again, whatever has happened to it.
void test_diff(int top) {
  Fd base = fresh(top, "base");
  fill(base.get());
  put(base.get(), "hidden", "hidden");
  Fd upper_layer = fresh(top, "second");
  CHECK(mknodat(upper_layer.get(), "hidden", S_IFCHR, 0) == 0);
  put(upper_layer.get(), "second", "second");
  Fd tree = fresh(top, "changed");
  CHECK(clone_tree(base.get(), tree.get(), CloneKind::kApply, kGoOn));
  CHECK(clone_tree(upper_layer.get(), tree.get(), CloneKind::kApply, kGoOn));
  const int lowers[] = {upper_layer.get(), base.get()};

  CHECK(unlinkat(tree.get(), "fifo", 0) == 0);
  put(tree.get(), "second", "SECOND");
  const struct stat was = stat_of(upper_layer.get(), "second");
  const timespec times[2] = {was.st_atim, was.st_mtim};  // as if nothing had happened: only the content tells
  CHECK(utimensat(tree.get(), "second", times, 0) == 0);
  CHECK(unlinkat(tree.get(), "dir/inner", 0) == 0);
  put(tree.get(), "dir/more", "more");
  CHECK(fchmodat(tree.get(), "device", 0666, 0) == 0);

  Fd layer = fresh(top, "difference");
  auto made = diff_tree(lowers, tree.get(), layer.get(), long_ago(), kGoOn);
  CHECK(made && made->entries == 3);
  CHECK(whiteout(layer.get(), "fifo") && whiteout(layer.get(), "dir/inner") && absent(layer.get(), "hidden"));
  CHECK(holds(layer.get(), "second", "SECOND") && holds(layer.get(), "dir/more", "more"));
  CHECK(absent(layer.get(), "file") && absent(layer.get(), "sparse") && absent(layer.get(), "link"));

  Fd unseen = fresh(top, "unseen");
  CHECK(diff_tree(lowers, tree.get(), unseen.get(), far_ahead(), kGoOn));
  CHECK(absent(unseen.get(), "second"));  // its inode counts as unchanged since then

  Fd again = fresh(top, "again");
  for (int each : {base.get(), upper_layer.get(), layer.get()})
    CHECK(clone_tree(each, again.get(), CloneKind::kApply, kGoOn));
  const int whole[] = {again.get()};
  Fd empty = fresh(top, "empty");
  auto none = diff_tree(whole, tree.get(), empty.get(), long_ago(), kGoOn);
  CHECK(none && none->entries == 0 && absent(empty.get(), "dir"));
}

void test_depth(int top) {
  Fd deep = fresh(top, "deep");
  Fd at(openat(deep.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 600; ++i) at = make_directory_at(at.get(), "n", 0700, false).take();
  put(at.get(), "f", "f");
  Fd to = fresh(top, "deep-copy");
  const auto copied = clone_tree(deep.get(), to.get(), CloneKind::kLayer, kGoOn);
  CHECK(!copied && (copied.error().err == ELOOP || copied.error().err == EMFILE));
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    printf("skipped: needs root for owners, devices and trusted attributes\n");
    return 0;
  }
  char path[] = "/tmp/tree-test-XXXXXX";
  CHECK(mkdtemp(path) != nullptr);
  Fd top(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  test_clone(top.get());
  test_apply(top.get());
  test_diff(top.get());
  test_depth(top.get());
  Fd tmp(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(remove_tree_at(tmp.get(), path + 5));
  return test::done();
}
