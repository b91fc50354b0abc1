// Fuzz target of the EROFS index of a layer: of any archive the index, mounted by the kernel, shows the tree that the
// unpacker makes of the same bytes, and both refuse what the other does. Needs root and a kernel with EROFS.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/block_mount.h"
#include "core/directory_walk.h"
#include "core/erofs/indexed_layer.h"
#include "core/unpack/layer_tree.h"
#include "tar_builder.h"

using namespace caisson;

namespace {

tar::Limits limits() {
  tar::Limits limits;
  limits.max_entries = 1000;
  limits.max_bytes = 1 << 20;
  return limits;
}

template <typename Target>
Error feed(Target& target, span<const u8> bytes, size_t step, span<const int> below) {
  while (!bytes.empty()) {
    span<const u8> piece = bytes.first(step < bytes.size() ? step : bytes.size());
    bytes = bytes.subspan(piece.size());
    Status status = target.write(piece);
    if (!status) return status.error();
  }
  Result<LayerStats> done = target.end();
  if (!done) return done.error();
  Result<bool> settled = target.settle({below, true});
  return settled ? Error() : settled.error();
}

Error unpack(int directory, span<const u8> bytes, span<const int> below) {
  Result<LayerApply> made = LayerApply::create(directory, limits(), !below.empty());
  return made ? feed(*made, bytes, SIZE_MAX, below) : made.error();
}

Error index(int directory, span<const u8> bytes, bool archive, span<const int> below) {
  const erofs::IndexForm form = {archive ? 9u : 12u, archive};
  Result<IndexedLayer> made = IndexedLayer::create(directory, form, limits(), !below.empty());
  return made ? feed(*made, bytes, archive ? 509 : SIZE_MAX, below) : made.error();
}

void require(bool held, const char* what, const char* name) {
  if (held) return;
  fprintf(stderr, "%s differs: %s\n", what, name);
  __builtin_trap();
}

Fd open_at(int directory, const char* name, int flags) {
  Fd fd(openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC));
  require(static_cast<bool>(fd), "what can be opened", name);
  return fd;
}

int entries(int directory) {
  Fd copy = open_at(directory, ".", O_RDONLY | O_DIRECTORY);
  DIR* list = fdopendir(copy.release());
  int count = 0;
  while (readdir(list) != nullptr) ++count;
  closedir(list);
  return count;
}

void compare_content(int a, int b, const char* name) {
  static u8 one[1 << 16];
  static u8 other[1 << 16];
  for (off_t at = 0; at < off_t{1} << 20;) {
    const ssize_t n = pread(a, one, sizeof one, at);
    require(n >= 0 && pread(b, other, sizeof other, at) == n, "the length", name);
    if (n == 0) return;
    require(memcmp(one, other, static_cast<size_t>(n)) == 0, "the content", name);
    at += n;
  }
}

void compare_attributes(int a, int b, const char* name) {
  static char names[1 << 16];
  static char one[1 << 16];
  static char other[1 << 16];
  const ssize_t size = flistxattr(a, names, sizeof names);
  require(flistxattr(b, nullptr, 0) == size, "the list of attributes", name);
  for (const char* key = names; key < names + size; key += strlen(key) + 1) {
    const ssize_t n = fgetxattr(a, key, one, sizeof one);
    require(n == fgetxattr(b, key, other, sizeof other), "an attribute", name);
    require(n <= 0 || memcmp(one, other, static_cast<size_t>(n)) == 0, "an attribute", name);
  }
}

// A list of access rules changes the mode with it.
void compare(int tree, int mounted, const char* name, int depth) {
  struct stat a = {};
  struct stat b = {};
  require(fstatat(tree, name, &a, AT_SYMLINK_NOFOLLOW) == 0, "what is there", name);
  require(fstatat(mounted, name, &b, AT_SYMLINK_NOFOLLOW) == 0, "what is there", name);
  require(a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid, "mode or owner", name);
  require(a.st_rdev == b.st_rdev && a.st_nlink == b.st_nlink, "device or links", name);
  if (S_ISLNK(a.st_mode)) {
    char one[4096] = {};
    char other[4096] = {};
    require(readlinkat(tree, name, one, sizeof one) == readlinkat(mounted, name, other, sizeof other) &&
                memcmp(one, other, sizeof one) == 0,
            "the target", name);
  }
  if (!S_ISREG(a.st_mode) && !S_ISDIR(a.st_mode)) return;
  // a root that nothing tells of has the time of its making
  const bool told = strcmp(name, ".") != 0;
  require(!told || (a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec), "the time", name);
  const Fd one = open_at(tree, name, O_RDONLY | O_NONBLOCK);
  const Fd other = open_at(mounted, name, O_RDONLY | O_NONBLOCK);
  compare_attributes(one.get(), other.get(), name);
  if (S_ISREG(a.st_mode)) {
    require(a.st_size == b.st_size, "the size", name);
    return compare_content(one.get(), other.get(), name);
  }
  if (depth == 0) return;
  require(entries(one.get()) == entries(other.get()), "the number of entries", name);
  Fd copy = open_at(one.get(), ".", O_RDONLY | O_DIRECTORY);
  DIR* list = fdopendir(copy.release());
  while (const dirent* each = readdir(list))
    if (strcmp(each->d_name, ".") != 0 && strcmp(each->d_name, "..") != 0)
      compare(one.get(), other.get(), each->d_name, depth - 1);
  closedir(list);
}

// Said of the archive, not by the disk.
bool is_policy(const Error& error) {
  const string_view call(error.call);
  return call.starts_with("unpack") || call.starts_with("read tar");
}

bool has_rules(string_view bytes) { return bytes.find("posix_acl") != string_view::npos; }

// Directories that say something to whoever has none of his own.
void distinguish(int tree) {
  DirectoryWalk walk(tree);
  for (u32 count = 1;; ++count) {
    const Result<Fd> next = walk.next();
    if (!next || !*next) return;
    const int dir = (*next).get();
    if (fchown(dir, count, walk.depth()) != 0 || fchmod(dir, 0700 | (count & 07077)) != 0 ||
        fsetxattr(dir, "trusted.count", &count, sizeof count, 0) != 0)
      abort();
    if (!walk.add_all(dir)) abort();
  }
}

// The layer `bytes` in all forms, upon `below`. The tree is left in `top`, where it could be unpacked.
Error compare_forms(int top, const char* name, string_view input, span<const int> below) {
  const span<const u8> bytes(reinterpret_cast<const u8*>(input.data()), input.size());
  mkdirat(top, name, 0755);
  const Fd tree = open_at(top, name, O_RDONLY | O_DIRECTORY);
  Error unpacked = unpack(tree.get(), bytes, below);
  for (const bool archive : {true, false}) {
    mkdirat(top, "index", 0755);
    const Fd layer = open_at(top, "index", O_RDONLY | O_DIRECTORY);
    const Error indexed = index(layer.get(), bytes, archive, below);
    if (is_policy(unpacked)) require(indexed.err == unpacked.err, "the refusal", unpacked.call);
    if (unpacked.err == 0 && indexed.err != 0) require(!is_policy(indexed), "the refusal", indexed.call);
    if (unpacked.err == 0 && indexed.err == 0 && !has_rules(input)) {
      Result<Fd> mounted = mount_erofs(layer.get());
      require(static_cast<bool>(mounted), "what can be mounted", mounted ? "" : mounted.error().object);
      compare(tree.get(), mounted->get(), ".", 16);
    }
    if (!evict(top, "index", "index")) abort();
  }
  return unpacked;
}

Fd scratch() {
  static char name[] = "/var/tmp/caisson-erofs-fuzz-XXXXXX";
  if (mkdtemp(name) == nullptr) abort();
  atexit([] { rmdir(name); });
  return Fd(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  static const Fd top = scratch();
  String input(string_view(reinterpret_cast<const char*>(data), size));
  for (size_t at = 0; at + tar::kBlock <= size; at += tar::kBlock) {
    u8* block = reinterpret_cast<u8*>(const_cast<char*>(input.c_str())) + at;
    if (memcmp(block + tar::kMagic.at, "ustar", 5) == 0) caisson::test::TarBuilder::seal(block);
  }
  const Error base = compare_forms(top.get(), "base", input.view(), {});
  if (base.err == 0) {
    // once more upon itself
    const Fd below = open_at(top.get(), "base", O_RDONLY | O_DIRECTORY);
    distinguish(below.get());
    const int layers[] = {below.get()};
    static_cast<void>(compare_forms(top.get(), "upper", input.view(), layers));
    if (!evict(top.get(), "upper", "upper")) abort();
  }
  if (!evict(top.get(), "base", "base")) abort();
  return 0;
}
