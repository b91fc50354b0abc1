// Trees measured as du(1) does, and locks whose file is removed by their holder.
#include "core/tree_usage.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "core/path.h"

using namespace caisson;

namespace {

void put(int dir, const char* name, size_t size) {
  Fd file(openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  String text;
  for (size_t i = 0; i < size; ++i) text.append('x');
  CHECK(write(file.get(), text.c_str(), size) == static_cast<ssize_t>(size));
}

void test_usage(int top) {
  mkdirat(top, "tree", 0700);
  Fd tree(openat(top, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  TreeUsage empty = *tree_usage_at(top, "tree");
  CHECK(empty.inodes == 1 && empty.content == 0);

  put(tree.get(), "a", 5000);
  // more links than the first table holds
  for (int i = 0; i < 100; ++i) {
    String name;
    name.append("link-").append_u64(static_cast<u64>(i));
    CHECK(linkat(tree.get(), "a", tree.get(), name.c_str(), 0) == 0);
  }
  CHECK(symlinkat("/etc", tree.get(), "away") == 0);
  CHECK(mkdirat(tree.get(), "d", 0700) == 0 && mkdirat(tree.get(), "d/e", 0700) == 0);
  put(tree.get(), "d/e/f", 1);
  TreeUsage usage = *tree_usage_at(top, "tree");
  CHECK(usage.inodes == 6);  // top, a, away, d, e, f
  CHECK(usage.content == 5001);
  CHECK(usage.bytes >= empty.bytes + 5001);

  CHECK(ftruncate(Fd(openat(tree.get(), "a", O_WRONLY | O_CLOEXEC)).get(), i64{1} << 40) == 0);
  CHECK(tree_usage_at(top, "tree")->content == (u64{1} << 40) + 1);
  CHECK(tree_usage_at(top, "tree")->bytes == usage.bytes);  // a hole takes nothing

  // 3000 levels with one descriptor each would not do
  Fd at(openat(tree.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 1500; ++i) {
    CHECK(mkdirat(at.get(), "n", 0700) == 0);
    at = Fd(openat(at.get(), "n", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CHECK(static_cast<bool>(at));
  }
  CHECK(tree_usage_at(top, "tree")->inodes == 1506);

  CHECK(tree_usage_at(top, "absent").error().err == ENOENT);
  CHECK(tree_usage_at(top, "../x").error().err == EINVAL);
  CHECK(symlinkat("tree", top, "link") == 0);
  CHECK(!tree_usage_at(top, "link"));
  CHECK(remove_tree_at(top, "tree") && remove_tree_at(top, "link"));
}

void test_lock(const char* path) {
  Result<Fd> first = lock_file(path);
  CHECK(static_cast<bool>(first));
  CHECK(lock_file(path).error().err == EAGAIN);
  CHECK(unlink(path) == 0);
  // the name is free, and the old file is held by nobody that matters
  Result<Fd> second = lock_file(path);
  CHECK(static_cast<bool>(second));
  CHECK(lock_file(path).error().err == EAGAIN);
  CHECK(unlink(path) == 0);
}

}  // namespace

int main() {
  char name[] = "/var/tmp/caisson-usage-XXXXXX";
  CHECK(mkdtemp(name) != nullptr);
  Fd top(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  test_usage(top.get());
  String lock(name);
  lock.append("/lock");
  test_lock(lock.c_str());
  rmdir(name);
  return caisson::test::done();
}
