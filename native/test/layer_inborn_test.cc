// Owners, modes and access control lists are those of the archive whatever a new file gets by itself: the thread's
// umask, and what its directory hands down.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "core/unpack/layer_apply.h"
#include "tar_builder.h"

using namespace caisson;
using caisson::test::TarBuilder;

namespace {

// Plain, of another group with its set-group-ID bit, of another group, and with a default ACL.
constexpr const char* kDirectories[] = {"plain", "setgid", "grouped", "acl"};
constexpr u32 kModes[] = {0, 0400, 0600, 0644, 0755, 0666, 0777, 02755, 04755, 01644};
constexpr u32 kIds[] = {0, 7, 1000};

// Calls f(name, mode, uid, gid) for each file of each directory.
template <typename F>
void each_file(F f) {
  for (const char* directory : kDirectories)
    for (u32 mode : kModes)
      for (u32 uid : kIds)
        for (u32 gid : kIds) {
          char name[64];
          snprintf(name, sizeof name, "%s/%o-%u-%u", directory, mode, uid, gid);
          f(name, mode, uid, gid);
        }
}

void append_archive(TarBuilder& tar) {
  tar.add({.name = "plain/", .type = '5', .mode = 0755});
  tar.add({.name = "setgid/", .type = '5', .mode = 02755, .gid = 7});
  tar.add({.name = "grouped/", .type = '5', .mode = 0755, .gid = 1000});
  // posix_acl_xattr.h: version 2, then tag, permissions and id of user::rwx, user:1000:rwx, group::r-x, mask::rwx and
  // other::---
  String records;
  TarBuilder::record(records, "SCHILY.xattr.system.posix_acl_default",
                     string_view("\2\0\0\0"
                                 "\1\0\7\0\377\377\377\377"
                                 "\2\0\7\0\350\3\0\0"
                                 "\4\0\5\0\377\377\377\377"
                                 "\20\0\7\0\377\377\377\377"
                                 "\40\0\0\0\377\377\377\377",
                                 44));
  tar.pax(records).add({.name = "acl/", .type = '5', .mode = 0755});
  each_file([&](const char* name, u32 mode, u32 uid, u32 gid) {
    tar.add({.name = name, .mode = mode, .uid = uid, .gid = gid}, "data");
  });
  for (const char* directory : kDirectories) {
    const auto under = [&](const char* name) {
      String path{string_view(directory)};
      path.append('/').append(string_view(name));
      return path;
    };
    tar.add({.name = under("told/"), .type = '5', .mode = 0750, .uid = 3, .gid = 4});
    tar.add({.name = under("untold/file"), .mode = 0640}, "data");
    tar.add({.name = under("pipe"), .type = '6', .mode = 0640, .uid = 3});
  }
  tar.end();
}

// Whether what is there has this mode and owner, and no access control list.
bool is(int top, const char* directory, const char* name, u32 mode, u32 uid, u32 gid) {
  char path[96];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  struct stat st = {};
  if (fstatat(top, path, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  snprintf(path, sizeof path, "/proc/self/fd/%d/%s/%s", top, directory, name);
  char names[256];
  const ssize_t size = llistxattr(path, names, sizeof names);
  return (st.st_mode & 07777) == mode && st.st_uid == uid && st.st_gid == gid && size >= 0 &&
         string_view(names, static_cast<size_t>(size)).find("posix_acl") == string_view::npos;
}

void test_mask(mode_t mask, mode_t told) {
  char top[] = "/var/tmp/caisson-inborn-XXXXXX";
  CHECK(mkdtemp(top) != nullptr);
  Fd directory(open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  TarBuilder tar;
  append_archive(tar);
  const mode_t before = umask(mask);
  Result<LayerApply> apply = LayerApply::create(directory.get(), {}, false, told);
  CHECK(apply && apply->write(tar.bytes()) && apply->end() && apply->settle({{}, true}));
  umask(before);
  each_file(
      [&](const char* name, u32 mode, u32 uid, u32 gid) { CHECK(is(directory.get(), ".", name, mode, uid, gid)); });
  for (const char* under : kDirectories) {
    CHECK(is(directory.get(), under, "told", 0750, 3, 4));
    CHECK(is(directory.get(), under, "untold", 0755, 0, 0));
    CHECK(is(directory.get(), under, "untold/file", 0640, 0, 0));
    CHECK(is(directory.get(), under, "pipe", 0640, 3, 0));
  }
  for (const char* name : kDirectories) CHECK(evict(directory.get(), name, name));
  CHECK(rmdir(top) == 0);
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    printf("skipped: owners need root\n");
    return 0;
  }
  test_mask(0, 0);
  test_mask(022, 022);
  test_mask(077, 077);
  test_mask(022, 0777);
  return caisson::test::done();
}
