// Trees as archives, read back by our own reader: under the sanitizers, what test/image/pack.test.ts holds against GNU
// tar.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "core/pack/pack_tree.h"
#include "core/path.h"
#include "core/unpack/layer_apply.h"
#include "tree_files.h"

using namespace caisson;
using namespace caisson::test;

namespace {

class Memory final : public ByteSink {
 public:
  explicit Memory(size_t limit = SIZE_MAX) : limit_(limit) {}
  Status write(span<const u8> data) override {
    if (text_.size() + data.size() > limit_) return Error(EPIPE, "write", "memory");
    text_.append({reinterpret_cast<const char*>(data.data()), data.size()});
    return ok();
  }
  string_view view() const { return text_.view(); }
  span<const u8> bytes() const { return {reinterpret_cast<const u8*>(text_.c_str()), text_.size()}; }

 private:
  size_t limit_;
  String text_;
};

void unpack(const Memory& archive, int dir) {
  Result<LayerApply> apply = LayerApply::create(dir, {});
  CHECK(apply);
  if (!apply) return;
  // in pieces that end anywhere
  span<const u8> rest = archive.bytes();
  while (!rest.empty()) {
    const size_t n = rest.size() < 777 ? rest.size() : 777;
    CHECK(apply->write(rest.subspan(0, n)));
    rest = rest.subspan(n);
  }
  CHECK(apply->end() && apply->settle({{}, true}));
}

void test_tree(int top) {
  const Fd tree = fresh(top, "tree");
  put(tree.get(), "file", "text");
  CHECK(fchownat(tree.get(), "file", 3'000'000, 4, 0) == 0 && fchmodat(tree.get(), "file", 06755, 0) == 0);
  CHECK(linkat(tree.get(), "file", tree.get(), "twin", 0) == 0);
  CHECK(symlinkat("/somewhere/else", tree.get(), "link") == 0);
  CHECK(mknodat(tree.get(), "device", S_IFCHR | 0600, makedev(1, 3)) == 0);
  CHECK(mkfifoat(tree.get(), "fifo", 0620) == 0);
  CHECK(mknodat(tree.get(), "socket", S_IFSOCK | 0600, 0) == 0);
  const Fd deep =
      fresh(tree.get(), "ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd");
  put(deep.get(), "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn", "deep");
  Fd hole(openat(tree.get(), "hole", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  CHECK(pwrite(hole.get(), "end", 3, i64{1} << 33) == 3);
  const struct timespec times[2] = {{1, 2}, {-5, 250'000'000}};
  CHECK(utimensat(tree.get(), "file", times, 0) == 0);

  Memory archive;
  const int dirs[] = {tree.get()};
  CHECK(pack_tree(dirs, PackKind::kTree, {}, archive));
  CHECK(archive.view().size() % 512 == 0 && archive.view().size() < 100'000);
  Memory again;
  CHECK(pack_tree(dirs, PackKind::kTree, {}, again) && again.view() == archive.view());

  const Fd back = fresh(top, "back");
  unpack(archive, back.get());
  CHECK(holds(back.get(), "twin", "text"));
  const struct stat file = stat_of(back.get(), "file");
  CHECK(file.st_nlink == 2 && file.st_uid == 3'000'000 && file.st_gid == 4 && (file.st_mode & 07777) == 06755);
  CHECK(file.st_mtim.tv_sec == -5 && file.st_mtim.tv_nsec == 250'000'000);
  CHECK(stat_of(back.get(), "device").st_rdev == makedev(1, 3) && S_ISFIFO(stat_of(back.get(), "fifo").st_mode));
  CHECK(stat_of(back.get(), "socket").st_mode == 0);
  const struct stat sparse = stat_of(back.get(), "hole");
  CHECK(sparse.st_size == (i64{1} << 33) + 3 && sparse.st_blocks < 1000);

  Memory small(2000);
  const Status full = pack_tree(dirs, PackKind::kTree, {}, small);
  CHECK(!full && full.error().err == EPIPE);
}

void test_layer(int top) {
  const Fd layer = fresh(top, "layer");
  put(layer.get(), "kept", "kept");
  CHECK(mknodat(layer.get(), "gone", S_IFCHR, 0) == 0);
  const Fd etc = fresh(layer.get(), "etc");
  put(etc.get(), "hosts", "");
  String paths[] = {String("etc/hosts"), String("absent/x")};
  Memory archive;
  const int dirs[] = {layer.get()};
  CHECK(pack_tree(dirs, PackKind::kLayer, paths, archive));
  CHECK(stat_of(etc.get(), "hosts").st_mode == 0);
  const Fd back = fresh(top, "layer-back");
  unpack(archive, back.get());
  CHECK(holds(back.get(), "kept", "kept") && S_ISCHR(stat_of(back.get(), "gone").st_mode));
  CHECK(S_ISDIR(stat_of(back.get(), "etc").st_mode) && stat_of(back.get(), "etc/hosts").st_mode == 0);

  put(layer.get(), ".wh.x", "");
  Memory refused;
  const Status bad = pack_tree(dirs, PackKind::kLayer, {}, refused);
  CHECK(!bad && bad.error().err == EINVAL);
}

void test_merged(int top) {
  const Fd upper = fresh(top, "upper");
  const Fd lower = fresh(top, "lower");
  put(lower.get(), "both", "lower");
  put(lower.get(), "gone", "lower");
  put(lower.get(), "only", "lower");
  put(fresh(lower.get(), "dir").get(), "lower", "1");
  put(upper.get(), "both", "upper");
  CHECK(mknodat(upper.get(), "gone", S_IFCHR, 0) == 0);
  put(fresh(upper.get(), "dir").get(), "upper", "2");
  Memory archive;
  const int dirs[] = {upper.get(), lower.get()};
  CHECK(pack_tree(dirs, PackKind::kTree, {}, archive));
  const Fd back = fresh(top, "merged-back");
  unpack(archive, back.get());
  CHECK(holds(back.get(), "both", "upper") && holds(back.get(), "only", "lower"));
  CHECK(holds(back.get(), "dir/lower", "1") && holds(back.get(), "dir/upper", "2"));
  CHECK(stat_of(back.get(), "gone").st_mode == 0);
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    printf("skipped: needs root for owners, devices and trusted attributes\n");
    return 0;
  }
  char name[] = "/tmp/pack-test-XXXXXX";
  CHECK(mkdtemp(name) != nullptr);
  const Fd top(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  umask(022);
  test_tree(top.get());
  test_layer(top.get());
  test_merged(top.get());
  const Fd tmp(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK(remove_tree_at(tmp.get(), name + 5));
  return test::done();
}
