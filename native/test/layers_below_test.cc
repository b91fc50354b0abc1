// Directories that no entry of a layer describes, as a tree and as an index: what they take over from the layers below.
#include "core/unpack/layers_below.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "core/block_mount.h"
#include "core/erofs/indexed_layer.h"
#include "core/unpack/layer_tree.h"
#include "tar_builder.h"

using namespace caisson;
using caisson::test::TarBuilder;

namespace {

enum class Form { kTree, kIndex };

struct Wanted {
  mode_t mode = 0755;
  uid_t uid = 0;
  i64 mtime = 1'000'000'000;
  long nsec = 0;
  string_view note = {};  // user.note
};

// Layers of one image, base first.
class Image {
 public:
  explicit Image(Form form) : form_(form) {
    char name[] = "/var/tmp/caisson-below-XXXXXX";
    path_.append(mkdtemp(name));
    top_ = Fd(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  ~Image() {
    trees_.clear();
    for (size_t i = 0; i < count_; ++i) CHECK(evict(top_.get(), name(i).c_str(), "layer"));
    CHECK(rmdir(path_.c_str()) == 0);
  }

  Error add(TarBuilder& tar) {
    tar.end();
    const String own = name(count_++);
    CHECK(mkdirat(top_.get(), own.c_str(), 0755) == 0);
    Fd layer(openat(top_.get(), own.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool inherits = !trees_.empty();
    Error error;
    if (form_ == Form::kTree) {
      Result<LayerApply> tree = LayerApply::create(layer.get(), {}, inherits);
      CHECK(tree);
      error = fill(*tree, tar.bytes());
    } else {
      Result<IndexedLayer> index = IndexedLayer::create(layer.get(), {}, {}, inherits);
      CHECK(index);
      error = fill(*index, tar.bytes());
      if (error.err == 0) {
        Result<Fd> mounted = mount_erofs(layer.get());
        CHECK(mounted);
        if (mounted) layer = mounted.take();
      }
    }
    Vec<Fd> all;
    all.push(static_cast<Fd&&>(layer));
    for (Fd& each : trees_) all.push(static_cast<Fd&&>(each));
    trees_ = static_cast<Vec<Fd>&&>(all);
    return error;
  }

  // Of the layer that was added last.
  bool is(const char* path, const Wanted& wanted) {
    struct stat st = {};
    if (fstatat(trees_[0].get(), path, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
    const Fd dir(openat(trees_[0].get(), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    char note[64];
    const ssize_t n = fgetxattr(dir.get(), "user.note", note, sizeof note);
    const string_view found = n < 0 ? string_view() : string_view(note, static_cast<size_t>(n));
    const bool unmarked = fgetxattr(dir.get(), "trusted.caisson.implied", note, sizeof note) < 0 && errno == ENODATA;
    const bool same = (st.st_mode & 07777) == wanted.mode && st.st_uid == wanted.uid &&
                      st.st_mtim.tv_sec == wanted.mtime && st.st_mtim.tv_nsec == wanted.nsec && found == wanted.note;
    if (!same)
      fprintf(stderr, "  %s: %o %u %lld.%09ld %.*s\n", path, st.st_mode & 07777, st.st_uid,
              static_cast<long long>(st.st_mtim.tv_sec), st.st_mtim.tv_nsec, static_cast<int>(n < 0 ? 0 : n), note);
    return same && unmarked;
  }

  LayerStats stats;
  size_t asked = 0;  // layers below, until it was whole

 private:
  template <typename Target>
  Error fill(Target& target, span<const u8> bytes) {
    Status written = target.write(bytes);
    if (!written) return written.error();
    Result<LayerStats> done = target.end();
    if (!done) return done.error();
    stats = *done;
    Vec<int> below;
    for (const Fd& tree : trees_) below.push(tree.get());
    // one more each time, as long as what is above does not say enough
    for (asked = 0;; ++asked) {
      const span<const int> some = span<const int>(below).first(asked);
      Result<bool> settled = target.settle({some, asked == below.size()});
      if (!settled) return settled.error();
      if (*settled) return {};
      CHECK(asked < below.size());
    }
  }
  static String name(size_t index) {
    String text;
    text.append_u64(index);
    return text;
  }

  Form form_;
  String path_;
  Fd top_;
  Vec<Fd> trees_;  // topmost first
  size_t count_ = 0;
};

TarBuilder& noted(TarBuilder& tar, string_view note, string_view mtime = "7.000000008") {
  String records;
  TarBuilder::record(records, "SCHILY.xattr.user.note", note);
  TarBuilder::record(records, "mtime", mtime);
  return tar.pax(records);
}

constexpr Wanted kUntold = {};

void test_taken_over(Form form) {
  Image image(form);
  TarBuilder base;
  noted(base, "root").add({.name = "./", .type = '5', .mode = 0711, .uid = 1});
  noted(base, "a").add({.name = "a/", .type = '5', .mode = 01777, .uid = 2});
  noted(base, "b").add({.name = "a/b/", .type = '5', .mode = 0700, .uid = 3});
  base.add({.name = "plain/in/x"}, "x");
  CHECK(image.add(base).err == 0);
  CHECK(image.stats.implied == 0 && !image.stats.implied_root);
  CHECK(image.is("plain/in", kUntold));

  TarBuilder between;
  between.add({.name = "other"}, "x");
  CHECK(image.add(between).err == 0);
  CHECK(image.stats.implied == 0 && image.stats.implied_root);
  const Wanted root = {.mode = 0711, .uid = 1, .mtime = 7, .nsec = 8, .note = "root"};
  CHECK(image.is(".", root));

  TarBuilder top;
  top.add({.name = "a/b/new/x", .mtime = 99}, "x").add({.name = "plain/in/y"}, "y");
  // its entry comes after what is in it
  top.add({.name = "late/x"}, "x").add({.name = "late/", .type = '5', .mode = 0750, .uid = 9});
  CHECK(image.add(top).err == 0);
  CHECK(image.stats.implied_root && image.stats.implied >= 5);
  CHECK(image.is(".", root));
  CHECK(image.is("a", {.mode = 01777, .uid = 2, .mtime = 7, .nsec = 8, .note = "a"}));
  CHECK(image.is("a/b", {.mode = 0700, .uid = 3, .mtime = 7, .nsec = 8, .note = "b"}));
  CHECK(image.is("a/b/new", {.mtime = 99}));
  CHECK(image.is("late", {.mode = 0750, .uid = 9}));

  // and from a layer that took it over itself
  TarBuilder last;
  last.add({.name = "a/b/z"}, "z");
  last.add({.name = "./", .type = '5', .mode = 0700, .uid = 4});
  CHECK(image.add(last).err == 0);
  CHECK(!image.stats.implied_root && image.stats.implied == 2);
  CHECK(image.asked == 1);
  CHECK(image.is(".", {.mode = 0700, .uid = 4}));
  CHECK(image.is("a/b", {.mode = 0700, .uid = 3, .mtime = 7, .nsec = 8, .note = "b"}));
}

// What is hidden says nothing.
void test_hidden(Form form) {
  Image image(form);
  TarBuilder base;
  for (const char* name : {"white/", "file/", "link/", "opaque/", "within/", "own/"}) {
    String sub{string_view(name)};
    sub.append("sub/");
    noted(base, "below").add({.name = name, .type = '5', .mode = 0700, .uid = 3});
    noted(base, "below").add({.name = sub, .type = '5', .mode = 0700, .uid = 3});
  }
  CHECK(image.add(base).err == 0);
  TarBuilder middle;
  middle.add({.name = ".wh.white"}).add({.name = "file"}, "x").add({.name = "link", .type = '2', .link = "within"});
  noted(middle, "middle").add({.name = "opaque/", .type = '5', .mode = 0701});
  middle.add({.name = "opaque/.wh..wh..opq"}).add({.name = "within/.wh.sub"});
  CHECK(image.add(middle).err == 0);
  TarBuilder top;
  for (const char* name : {"white/sub/x", "file/sub/x", "link/sub/x", "opaque/sub/x", "within/sub/x"})
    top.add({.name = name}, "x");
  top.add({.name = "own/.wh..wh..opq"}).add({.name = "own/sub/x"}, "x");
  CHECK(image.add(top).err == 0);
  for (const char* name :
       {"white", "white/sub", "file", "file/sub", "link", "link/sub", "opaque/sub", "within/sub", "own/sub"})
    CHECK(image.is(name, kUntold));
  CHECK(image.is("opaque", {.mode = 0701, .mtime = 7, .nsec = 8, .note = "middle"}));
  const Wanted below = {.mode = 0700, .uid = 3, .mtime = 7, .nsec = 8, .note = "below"};
  CHECK(image.is("within", below));
  CHECK(image.is("own", below));
}

// A directory takes the place of a whiteout, or of a file, of its own layer: it is a new one.
void test_in_place_of(Form form) {
  Image image(form);
  TarBuilder base;
  for (const char* name : {"white/", "file/", "gone/"}) base.add({.name = name, .type = '5', .mode = 0700, .uid = 3});
  CHECK(image.add(base).err == 0);
  TarBuilder top;
  top.add({.name = ".wh.white"}).add({.name = "white/x"}, "x");
  top.add({.name = "file/x"}, "x").add({.name = "file"}, "x").add({.name = "file/", .type = '5', .mode = 0711});
  top.add({.name = "gone/x/y"}, "y").add({.name = "gone"}, "a file");
  CHECK(image.add(top).err == 0);
  CHECK(image.is("white", kUntold));
  CHECK(image.is("file", {.mode = 0711}));
}

// Marks of ours are no image's.
void test_foreign_mark(Form form) {
  Image image(form);
  TarBuilder base;
  base.add({.name = "d/", .type = '5', .mode = 0700, .uid = 3});
  CHECK(image.add(base).err == 0);
  String records;
  TarBuilder::record(records, "SCHILY.xattr.trusted.caisson.implied", "");
  TarBuilder top;
  top.pax(records).add({.name = "d/", .type = '5', .mode = 0711, .uid = 4});
  top.add({.name = "d/sub/x"}, "x");
  CHECK(image.add(top).err == 0);
  CHECK(image.is("d", {.mode = 0711, .uid = 4}));
}

void test_deep(Form form) {
  Image image(form);
  String deep;
  for (int i = 0; i < 40; ++i) deep.append("d/");
  TarBuilder base;
  base.add({.name = "d/", .type = '5', .mode = 0700, .uid = 3});
  base.add({.name = deep.view(), .type = '5', .mode = 0701, .uid = 4});
  CHECK(image.add(base).err == 0);
  TarBuilder top;
  String file(deep.view());
  file.append("x");
  top.add({.name = file.view()}, "x");
  CHECK(image.add(top).err == 0);
  CHECK(image.stats.implied == 40);
  CHECK(image.is("d", {.mode = 0700, .uid = 3}));
  CHECK(image.is(deep.c_str(), {.mode = 0701, .uid = 4}));
}

bool has_erofs() {
  char text[8192] = {};
  Fd file(open("/proc/filesystems", O_RDONLY | O_CLOEXEC));
  return read(file.get(), text, sizeof text - 1) > 0 && string_view(text).find("\terofs\n") != string_view::npos;
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    printf("skipped: owners and marks need root\n");
    return 0;
  }
  for (const Form form : {Form::kTree, Form::kIndex}) {
    if (form == Form::kIndex && !has_erofs()) continue;
    test_taken_over(form);
    test_hidden(form);
    test_in_place_of(form);
    test_foreign_mark(form);
    test_deep(form);
  }
  return caisson::test::done();
}
