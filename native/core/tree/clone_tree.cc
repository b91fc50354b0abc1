#include "core/tree/clone_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/directory.h"
#include "core/path.h"
#include "core/tree/tree_cloner.h"
#include "core/unpack/layer_tree.h"

namespace caisson {
namespace {

bool vanished(const Error& error) { return error.err == ENOENT || error.err == ESTALE; }

}  // namespace

Status TreeCloner::go_on(u32 depth) const {
  if (depth > kTreeDepthMax) return Error(ELOOP, "clone", path_.view());
  if (cancellation_.cancelled()) return Error(ECANCELED, "clone", path_.view());
  return ok();
}

// Makes room for an entry that a layer puts in another one's place.
template <typename Make>
Status TreeCloner::place(int to, const char* name, const char* call, Make make) {
  if (make() == 0) return ok();
  if (errno != EEXIST || kind_ != CloneKind::kApply) return failed(call);
  CAISSON_TRY(remove_tree_at(to, name));
  if (make() != 0) return failed(call);
  return ok();
}

Status TreeCloner::directory(int from, int to, u32 depth) {
  DirectoryReader reader(from);
  CAISSON_TRY(reader.rewind());
  for (;;) {
    const DirectoryReader::Entry found = CAISSON_TRY(reader.next());
    if (found.name == nullptr) return ok();
    CAISSON_TRY(go_on(depth));
    const PathScope scope(path_, found.name);
    CAISSON_TRY(entry(from, to, found.name, depth));
  }
}

Status TreeCloner::entry(int from, int to, const char* name, u32 depth) {
  struct stat st = {};
  if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return ok();
    return failed("fstatat");
  }
  ++stats_.entries;
  if (kind_ == CloneKind::kApply && is_whiteout(st)) return remove_tree_at(to, name);
  if (S_ISDIR(st.st_mode)) return subdirectory(from, to, name, depth);
  if (st.st_nlink > 1) {
    const String* first = links_.find(st);
    if (first != nullptr) return link(*first, to, name);
  }
  Status made = S_ISREG(st.st_mode) ? file(from, to, name, st) : special(from, to, name, st);
  if (!made && vanished(made.error())) return ok();
  if (!made) return made;
  if (st.st_nlink > 1) links_.add(st, path_.view());
  return ok();
}

Status TreeCloner::subdirectory(int from, int to, const char* name, u32 depth) {
  Result<Fd> source = open_at2(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow);
  if (!source && vanished(source.error())) return ok();
  if (!source) return source.error();
  if (kind_ == CloneKind::kApply && is_opaque_directory(source->get())) CAISSON_TRY(remove_tree_at(to, name));
  if (mkdirat(to, name, 0700) != 0) {
    if (errno != EEXIST || kind_ != CloneKind::kApply) return failed("mkdirat");
    struct stat present = {};
    if (fstatat(to, name, &present, AT_SYMLINK_NOFOLLOW) != 0) return failed("fstatat");
    if (!S_ISDIR(present.st_mode)) {
      CAISSON_TRY(remove_tree_at(to, name));
      if (mkdirat(to, name, 0700) != 0) return failed("mkdirat");
    }
  }
  Fd target = CAISSON_TRY(open_at2(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow));
  CAISSON_TRY(directory(source->get(), target.get(), depth + 1));
  return finish_directory(source->get(), target.get());
}

Status TreeCloner::finish_directory(int from, int to) {
  struct stat st = {};
  if (fstat(from, &st) != 0) return failed("fstat");
  return copy_attributes(from, to, st, xattrs(), path_.view());
}

Status TreeCloner::link(const String& first, int to, const char* name) {
  return place(to, name, "linkat", [&] { return linkat(top_, first.c_str(), to, name, 0); });
}

Status TreeCloner::file(int from, int to, const char* name, const struct stat& st) {
  Fd source(openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!source) return failed("openat");
  struct stat opened = {};
  if (fstat(source.get(), &opened) != 0) return failed("fstat");
  // swapped by the container, whose tree it is: what comes next is found by the next copy
  if (opened.st_ino != st.st_ino || !S_ISREG(opened.st_mode)) return Error(ESTALE, "clone", path_.view());
  Fd target;
  CAISSON_TRY(place(to, name, "openat", [&] {
    target.reset(openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    return target ? 0 : -1;
  }));
  const auto size = static_cast<u64>(opened.st_size);
  Status copied = copy_data(source.get(), target.get(), size, cancellation_);
  if (!copied) return Error(copied.error().err, copied.error().call, path_.view());
  stats_.bytes += size;
  return copy_attributes(source.get(), target.get(), opened, xattrs(), path_.view());
}

Status TreeCloner::special(int from, int to, const char* name, const struct stat& st) {
  if (S_ISLNK(st.st_mode)) {
    char text[4096];
    const ssize_t length = readlinkat(from, name, text, sizeof text - 1);
    if (length < 0) return failed("readlinkat");
    text[length] = '\0';
    CAISSON_TRY(place(to, name, "symlinkat", [&] { return symlinkat(text, to, name); }));
  } else {
    CAISSON_TRY(place(to, name, "mknodat", [&] { return mknodat(to, name, st.st_mode, st.st_rdev); }));
  }
  Fd source(openat(from, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!source) return failed("openat");
  Fd target(openat(to, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!target) return failed("openat");
  return copy_attributes(source.get(), target.get(), st, xattrs(), path_.view());
}

Result<CloneStats> clone_tree(int from, int to, CloneKind kind, const Cancellation& cancellation) {
  // descriptors of their own, to read by: the callers' may be O_PATH
  Fd source = CAISSON_TRY(open_at2(from, ".", O_RDONLY | O_DIRECTORY, 0, 0));
  Fd target = CAISSON_TRY(open_at2(to, ".", O_RDONLY | O_DIRECTORY, 0, 0));
  TreeCloner cloner(target.get(), kind, cancellation);
  CAISSON_TRY(cloner.directory(source.get(), target.get(), 0));
  CAISSON_TRY(cloner.finish_directory(source.get(), target.get()));
  return cloner.stats();
}

}  // namespace caisson
