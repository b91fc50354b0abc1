// Layers applied to a directory: whiteouts, replacement, attributes, and a hostile corpus beside a canary.
#include "core/unpack/layer_apply.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "tar_builder.h"

using namespace caisson;
using caisson::test::TarBuilder;

namespace {

// <tmp>/canary must stay as it is; <tmp>/layer is the directory that is unpacked into.
class Fixture {
 public:
  Fixture() {
    char name[] = "/var/tmp/caisson-layer-XXXXXX";
    path_.append(mkdtemp(name));
    top_ = Fd(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    mkdirat(top_.get(), "canary", 0700);
    Fd file(openat(top_.get(), "canary/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    CHECK(::write(file.get(), "untouched", 9) == 9);
    mkdirat(top_.get(), "layer", 0700);
    layer_ = Fd(openat(top_.get(), "layer", O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;
  ~Fixture() {
    struct stat st;
    CHECK(fstatat(top_.get(), "canary", &st, 0) == 0 && (st.st_mode & 07777) == 0700 && st.st_uid == 0);
    CHECK(fstatat(top_.get(), "canary/file", &st, 0) == 0);
    CHECK((st.st_mode & 07777) == 0600 && st.st_uid == 0 && st.st_size == 9 && st.st_nlink == 1);
    char text[16] = {};
    Fd file(openat(top_.get(), "canary/file", O_RDONLY | O_CLOEXEC));
    CHECK(read(file.get(), text, sizeof text) == 9 && string_view(text) == "untouched");
    CHECK(entries("canary") == 1);
    CHECK(entries(".") == 2);
    CHECK(evict(top_.get(), "layer", "layer"));
    CHECK(evict(top_.get(), "canary", "canary"));
    rmdir(path_.c_str());
  }

  Error apply(TarBuilder& tar, size_t step = SIZE_MAX) {
    tar.end();
    Result<LayerApply> made = LayerApply::create(layer_.get(), {});
    if (!made) return made.error();
    span<const u8> bytes = tar.bytes();
    while (!bytes.empty()) {
      span<const u8> piece = bytes.first(step < bytes.size() ? step : bytes.size());
      bytes = bytes.subspan(piece.size());
      Status status = made->write(piece);
      if (!status) return status.error();
    }
    Result<LayerStats> done = made->end();
    if (!done) return done.error();
    Result<bool> settled = made->settle({{}, true});
    CHECK(!settled || *settled);
    if (!settled) return settled.error();
    stats = *done;
    return {};
  }

  struct stat at(const char* name) {
    struct stat st = {};
    if (fstatat(layer_.get(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) st.st_mode = 0;
    return st;
  }
  bool absent(const char* name) { return at(name).st_mode == 0; }
  bool is_dir(const char* name) { return S_ISDIR(at(name).st_mode); }
  bool whiteout(const char* name) { return is_whiteout(at(name)); }
  bool opaque(const char* name) { return xattr(name, "trusted.overlay.opaque").view() == "y"; }
  String xattr(const char* name, const char* key) {
    char value[256];
    String path(path_.view());
    path.append("/layer/").append(name);
    ssize_t n = lgetxattr(path.c_str(), key, value, sizeof value);
    return n < 0 ? String() : String(string_view(value, static_cast<size_t>(n)));
  }
  String content(const char* name) {
    char text[256];
    Fd file(openat(layer_.get(), name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    ssize_t n = read(file.get(), text, sizeof text);
    return n < 0 ? String(string_view("(unreadable)")) : String(string_view(text, static_cast<size_t>(n)));
  }
  int entries(const char* name) {
    DIR* dir = fdopendir(openat(top_.get(), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir == nullptr) return -1;
    int n = -2;
    while (readdir(dir) != nullptr) ++n;
    closedir(dir);
    return n;
  }

  LayerStats stats;
  const String& path() const { return path_; }

 private:
  String path_;
  Fd top_;
  Fd layer_;
};

void test_attributes() {
  Fixture f;
  TarBuilder tar;
  tar.add({.name = "./", .type = '5', .mode = 0751, .uid = 5, .gid = 6});
  tar.add({.name = "./d", .type = '5', .mode = 01777, .uid = 1, .gid = 2, .mtime = 11});
  String records;
  TarBuilder::record(records, "mtime", "12.000000345");
  // cap_net_raw+ep, revision 2
  TarBuilder::record(records, "SCHILY.xattr.security.capability",
                     string_view("\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
  TarBuilder::record(records, "SCHILY.xattr.trusted.overlay.redirect", "/etc");
  TarBuilder::record(records, "SCHILY.xattr.user.overlay.opaque", "y");
  TarBuilder::record(records, "SCHILY.xattr.security.selinux", "system_u:object_r:bin_t:s0");
  TarBuilder::record(records, "SCHILY.xattr.user.kept", "1");
  tar.pax(records).add({.name = "d/f", .mode = 06755, .uid = 1000, .gid = 1001}, "data");
  tar.add({.name = "d/hard", .type = '1', .link = "d/f", .mode = 0, .uid = 9, .gid = 9});
  tar.add({.name = "d/sym", .type = '2', .link = "/nowhere", .uid = 3, .gid = 4, .mtime = 13});
  tar.add({.name = "null", .type = '3', .mode = 0666, .uid = 3, .mtime = 14, .dev_major = 1, .dev_minor = 3});
  tar.add({.name = "loop", .type = '4', .mode = 0660, .gid = 6, .dev_major = 7, .dev_minor = 300});
  tar.add({.name = "fifo", .type = '6', .mode = 0622});
  tar.add({.name = "a/b/c", .mode = 0600}, "implicit");
  CHECK(f.apply(tar, 1).err == 0);
  CHECK(f.stats.entries == 9 && f.stats.bytes == 12 && !f.stats.opaque_root);

  struct stat st = f.at(".");
  CHECK((st.st_mode & 07777) == 0751 && st.st_uid == 5 && st.st_gid == 6 && st.st_mtim.tv_sec == 1'000'000'000);
  st = f.at("d");
  CHECK((st.st_mode & 07777) == 01777 && st.st_uid == 1 && st.st_gid == 2);
  CHECK(st.st_mtim.tv_sec == 11 && st.st_mtim.tv_nsec == 0);  // although three entries were made in it
  st = f.at("d/f");
  CHECK(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 06755 && st.st_uid == 1000 && st.st_gid == 1001);
  CHECK(st.st_mtim.tv_sec == 12 && st.st_mtim.tv_nsec == 345 && st.st_nlink == 2);
  CHECK(st.st_ino == f.at("d/hard").st_ino);
  CHECK(f.content("d/f").view() == "data");
  CHECK(f.xattr("d/f", "security.capability").size() == 20);
  if (f.stats.xattrs_left_out == 0) {
    CHECK(f.xattr("d/f", "user.kept").view() == "1");
  } else {  // tmpfs before Linux 6.6
    CHECK(f.stats.xattrs_left_out == 1 && f.xattr("d/f", "user.kept").empty());
  }
  CHECK(f.xattr("d/f", "trusted.overlay.redirect").empty());
  CHECK(f.xattr("d/f", "user.overlay.opaque").empty());
  CHECK(f.xattr("d/f", "security.selinux").empty());
  st = f.at("d/sym");
  CHECK(S_ISLNK(st.st_mode) && st.st_uid == 3 && st.st_gid == 4 && st.st_mtim.tv_sec == 13);
  st = f.at("null");
  CHECK(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) && (st.st_mode & 07777) == 0666 && st.st_uid == 3);
  CHECK(st.st_mtim.tv_sec == 14);
  st = f.at("loop");
  CHECK(S_ISBLK(st.st_mode) && st.st_rdev == makedev(7, 300) && (st.st_mode & 07777) == 0660 && st.st_gid == 6);
  CHECK(S_ISFIFO(f.at("fifo").st_mode) && (f.at("fifo").st_mode & 07777) == 0622);
  CHECK(f.is_dir("a/b") && (f.at("a/b").st_mode & 07777) == 0755 && f.at("a/b").st_uid == 0);
}

void test_whiteouts() {
  Fixture f;
  TarBuilder tar;
  tar.add({.name = "a/.wh.gone"});
  tar.add({.name = "a/.wh.gone"});  // twice is once
  tar.add({.name = "before/", .type = '5'});
  tar.add({.name = "before/.wh..wh..opq"});
  tar.add({.name = "before/kept"}, "1");
  tar.add({.name = "after/.wh..wh..opq"});
  tar.add({.name = "after/kept"}, "2");
  tar.add({.name = "after/", .type = '5', .mode = 0700, .mtime = 21});
  tar.add({.name = ".wh.again"});  // then a directory of this layer
  tar.add({.name = "again/", .type = '5'});
  tar.add({.name = ".wh.implied"});
  tar.add({.name = "implied/below/x"}, "3");
  tar.add({.name = "first/", .type = '5'});  // the other way round
  tar.add({.name = "first/own"}, "4");
  tar.add({.name = ".wh.first"});
  tar.add({.name = "plain"}, "5");
  tar.add({.name = ".wh.plain"});
  tar.add({.name = ".wh..wh.plnk/", .type = '5'});
  tar.add({.name = ".wh..wh.plnk/77.88"}, "aufs");
  tar.add({.name = "x/.wh..wh.aufs"}, "aufs");
  tar.add({.name = ".wh.with-content"}, "ignored");
  CHECK(f.apply(tar, 100).err == 0);
  CHECK(f.whiteout("a/gone"));
  CHECK(f.opaque("before") && f.content("before/kept").view() == "1");
  CHECK(f.opaque("after") && f.content("after/kept").view() == "2");
  CHECK((f.at("after").st_mode & 07777) == 0700 && f.at("after").st_mtim.tv_sec == 21);
  CHECK(f.is_dir("again") && f.opaque("again"));
  CHECK(f.is_dir("implied") && f.opaque("implied") && f.content("implied/below/x").view() == "3");
  CHECK(!f.opaque("implied/below"));
  CHECK(f.opaque("first") && f.content("first/own").view() == "4");
  CHECK(f.content("plain").view() == "5");
  CHECK(f.absent(".wh..wh.plnk") && f.absent("x"));
  CHECK(f.whiteout("with-content") && f.stats.bytes == 5);

  Fixture root;
  TarBuilder opaque_root;
  opaque_root.add({.name = ".wh..wh..opq"});
  CHECK(root.apply(opaque_root).err == 0 && root.stats.opaque_root && root.opaque("."));
}

void test_duplicates() {
  Fixture f;
  TarBuilder tar;
  tar.add({.name = "file"}, "one");
  tar.add({.name = "other", .type = '1', .link = "file"});
  tar.add({.name = "file"}, "two");  // a new inode: the other name keeps the old content
  tar.add({.name = "d/e/f/g"}, "deep");
  tar.add({.name = "d/e/h"}, "deep");
  tar.add({.name = "d"}, "file now");
  tar.add({.name = "x"}, "file");
  tar.add({.name = "x/", .type = '5', .mode = 0711});
  tar.add({.name = "dir/", .type = '5', .mode = 0700});
  tar.add({.name = "dir/in"}, "stays");
  tar.add({.name = "dir/", .type = '5', .mode = 0711});
  tar.add({.name = "l", .type = '2', .link = "dir"});
  tar.add({.name = "l", .type = '2', .link = "x"});
  tar.add({.name = "self", .type = '1', .link = "other"});
  tar.add({.name = "self", .type = '1', .link = "other"});
  tar.add({.name = "other", .type = '1', .link = "other"});
  CHECK(f.apply(tar, 700).err == 0);
  CHECK(f.content("file").view() == "two" && f.content("other").view() == "one");
  CHECK(f.content("d").view() == "file now");
  CHECK(f.is_dir("x") && (f.at("x").st_mode & 07777) == 0711);
  CHECK(f.content("dir/in").view() == "stays" && (f.at("dir").st_mode & 07777) == 0711);
  CHECK(f.at("l").st_size == 1);
  CHECK(f.at("self").st_ino == f.at("other").st_ino && f.at("other").st_nlink == 2);

  Fixture attributes;
  TarBuilder twice;
  String first;
  TarBuilder::record(first, "SCHILY.xattr.trusted.first", "1");
  TarBuilder::record(first, "SCHILY.xattr.trusted.both", "1");
  twice.pax(first).add({.name = "d/", .type = '5', .mode = 0700});
  twice.add({.name = "d/.wh..wh..opq"}).add({.name = "d/x"}, "x");
  String second;
  TarBuilder::record(second, "SCHILY.xattr.trusted.both", "2");
  twice.pax(second).add({.name = "d/", .type = '5', .mode = 0711});
  CHECK(attributes.apply(twice).err == 0);
  CHECK(attributes.xattr("d", "trusted.first").empty() && attributes.xattr("d", "trusted.both").view() == "2");
  CHECK(attributes.opaque("d") && attributes.content("d/x").view() == "x");
}

// Depth beyond what names and descriptors reach at once, made and removed.
void test_deep_eviction() {
  Fixture f;
  TarBuilder tar;
  String path;
  for (int i = 0; i < 1500; ++i) path.append("d/");
  String name(path.view());
  name.append("leaf");
  tar.pax("path", name).add({.name = "x"}, "deep");
  tar.add({.name = "d"}, "flat");
  CHECK(f.apply(tar).err == 0);
  CHECK(f.content("d").view() == "flat");
}

void test_sparse() {
  Fixture f;
  TarBuilder tar;
  String records;
  TarBuilder::record(records, "GNU.sparse.size", "1073741824");
  TarBuilder::record(records, "GNU.sparse.map", "536870912,4");
  tar.pax(records).add({.name = "sparse"}, "data");
  CHECK(f.apply(tar, 3).err == 0);
  struct stat st = f.at("sparse");
  CHECK(st.st_size == 1 << 30 && st.st_blocks <= 16);
  CHECK(f.stats.bytes == 4);
}

void test_links_inside() {
  Fixture f;
  TarBuilder tar;
  tar.add({.name = "usr/lib/", .type = '5'});
  tar.add({.name = "lib", .type = '2', .link = "usr/lib"});
  tar.add({.name = "abs", .type = '2', .link = "/usr/lib"});
  tar.add({.name = "lib/one"}, "1");
  tar.add({.name = "abs/two"}, "2");
  tar.add({.name = "abs/sub/three"}, "3");
  tar.add({.name = "dangling", .type = '2', .link = "var/./x/../run"});
  tar.add({.name = "dangling/pid"}, "4");
  tar.add({.name = "usr/back", .type = '2', .link = "../etc"});
  tar.add({.name = "usr/back/conf"}, "5");
  tar.add({.name = "lib/hard", .type = '1', .link = "abs/one"});
  tar.add({.name = "a/./b/../c//d"}, "6");
  tar.add({.name = "/absolute"}, "7");
  CHECK(f.apply(tar).err == 0);
  CHECK(f.content("usr/lib/one").view() == "1" && f.content("usr/lib/two").view() == "2");
  CHECK(f.content("usr/lib/sub/three").view() == "3");
  CHECK(f.content("var/run/pid").view() == "4");
  CHECK(f.content("etc/conf").view() == "5");
  CHECK(f.at("usr/lib/hard").st_ino == f.at("usr/lib/one").st_ino);
  CHECK(f.content("a/c/d").view() == "6" && f.absent("a/b"));
  CHECK(f.content("absolute").view() == "7");
}

// Each of these tries to leave the directory. It fails, or ends inside; the canary shows which did not.
void test_hostile() {
  auto refused = [](auto build, int err, const char* named) {
    Fixture f;
    TarBuilder tar;
    build(tar, f);
    Error error = f.apply(tar);
    CHECK(error.err == err);
    CHECK(string_view(error.object).find(named) != string_view::npos);
    if (error.err != err || string_view(error.object).find(named) == string_view::npos)
      fprintf(stderr, "  %s: %s '%s'\n", strerror(error.err), error.call, error.object);
  };
  using F = Fixture;
  auto canary = [](const F& f) {
    String path(f.path().view());
    path.append("/canary");
    return path;
  };

  refused([](TarBuilder& t, F&) { t.add({.name = "../canary/file"}, "x"); }, EPERM, "../canary/file");
  refused([](TarBuilder& t, F&) { t.add({.name = "a/../../canary/file"}, "x"); }, EPERM, "a/../../canary/file");
  refused([](TarBuilder& t, F&) { t.add({.name = "/../canary/file"}, "x"); }, EPERM, "/../canary/file");
  refused([](TarBuilder& t, F&) { t.add({.name = "../canary/.wh.file"}); }, EPERM, "../canary/.wh.file");
  refused([](TarBuilder& t, F&) { t.add({.name = "../.wh.canary"}); }, EPERM, "../.wh.canary");
  refused([](TarBuilder& t, F&) { t.add({.name = "d/.wh..."}); }, EINVAL, "d/.wh...");
  refused([](TarBuilder& t, F&) { t.add({.name = ".wh..."}); }, EINVAL, ".wh...");
  refused([](TarBuilder& t, F&) { t.add({.name = ".wh.."}); }, EINVAL, ".wh..");
  refused([](TarBuilder& t, F&) { t.add({.name = ".wh."}); }, EINVAL, ".wh.");
  refused([](TarBuilder& t, F&) { t.add({.name = ".wh.x/y"}, "z"); }, EINVAL, ".wh.x/y");
  refused([](TarBuilder& t, F&) { t.add({.name = "h", .type = '1', .link = "../canary/file"}); }, EPERM,
          "h -> ../canary/file");
  refused([](TarBuilder& t, F&) { t.add({.name = "h", .type = '1', .link = "missing"}); }, ENOENT, "h -> missing");
  refused([](TarBuilder& t, F&) { t.add({.name = "h", .type = '1', .link = "/"}); }, EISDIR, "h -> /");
  refused([](TarBuilder& t, F&) { t.add({.name = "f"}, "x").add({.name = "f/g"}, "y"); }, ENOTDIR, "f");
  refused([](TarBuilder& t, F&) { t.add({.name = "l", .type = '2', .link = "l"}).add({.name = "l/x"}, "y"); }, ELOOP,
          "l");
  refused([](TarBuilder& t, F&) { t.add({.name = "."}, "x"); }, ENOTDIR, ".");
  refused([](TarBuilder& t, F&) { t.add({.name = "./", .type = '2', .link = "/etc"}); }, ENOTDIR, "./");
  // A hard link to what a link outside names: the absolute target is looked up below the layer.
  refused(
      [&](TarBuilder& t, F& f) {
        t.add({.name = "l", .type = '2', .link = canary(f)});
        t.add({.name = "h", .type = '1', .link = "l/file"});
      },
      ENOENT, "h -> l/file");

  auto contained = [&](auto build, const char* inside) {
    Fixture f;
    TarBuilder tar;
    build(tar, f);
    Error error = f.apply(tar);
    CHECK(error.err == 0);
    if (error.err != 0) fprintf(stderr, "  %s: %s '%s'\n", strerror(error.err), error.call, error.object);
    String name(inside[0] == '/' ? canary(f).view() : string_view(""));
    name.append(inside);
    const char* relative = name.c_str();
    while (*relative == '/') ++relative;
    CHECK(!f.absent(relative));
  };
  // Through a link, absolute and relative: file, directory, whiteout, opaque mark.
  contained(
      [&](TarBuilder& t, F& f) {
        String target = canary(f);
        t.add({.name = "l", .type = '2', .link = target}).add({.name = "l/file"}, "overwritten");
      },
      "/file");
  contained(
      [](TarBuilder& t, F&) {
        t.add({.name = "l", .type = '2', .link = "../../../canary"}).add({.name = "l/file"}, "overwritten");
      },
      "canary/file");
  contained(
      [&](TarBuilder& t, F& f) {
        String target = canary(f);
        t.add({.name = "l", .type = '2', .link = target}).add({.name = "l/.wh.file"});
        t.add({.name = "l/.wh..wh..opq"});
      },
      "/file");
  // A link as the last component is replaced, never followed: content, mode, owner.
  contained(
      [&](TarBuilder& t, F& f) {
        String target = canary(f);
        target.append("/file");
        t.add({.name = "l", .type = '2', .link = target}).add({.name = "l", .mode = 04777, .uid = 7}, "overwritten");
      },
      "l");
  contained(
      [&](TarBuilder& t, F& f) {
        String target = canary(f);
        t.add({.name = "l", .type = '2', .link = target});
        t.add({.name = "l/", .type = '5', .mode = 0777, .uid = 7});
        t.add({.name = "l/new"}, "x");
      },
      "l/new");
  // chmod through a link: mode and owner of the link's own entry stay with the link.
  contained(
      [&](TarBuilder& t, F& f) {
        String target = canary(f);
        target.append("/file");
        t.add({.name = "l", .type = '2', .link = target, .mode = 0777, .uid = 7, .gid = 7});
        t.add({.name = "h", .type = '1', .link = "l", .mode = 0777, .uid = 7, .gid = 7});
      },
      "h");
  // A directory swapped for a link between two entries of it.
  contained(
      [&](TarBuilder& t, F& f) {
        String target = canary(f);
        t.add({.name = "d/", .type = '5'}).add({.name = "d/a"}, "1");
        t.add({.name = "d", .type = '2', .link = target}).add({.name = "d/file"}, "overwritten");
      },
      "/file");
  // Magic links of a procfs that is not there.
  contained([](TarBuilder& t,
               F&) { t.add({.name = "l", .type = '2', .link = "/proc/self/root"}).add({.name = "l/tmp/x"}, "1"); },
            "proc/self/root/tmp/x");
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    printf("skipped: owners, devices and overlayfs attributes need root\n");
    return 0;
  }
  test_attributes();
  test_whiteouts();
  test_duplicates();
  test_deep_eviction();
  test_sparse();
  test_links_inside();
  test_hostile();
  return caisson::test::done();
}
