#include "core/pack/pack_tree.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/directory.h"
#include "core/pack/tar_writer.h"
#include "core/path.h"
#include "core/tree/links.h"
#include "core/tree/tree_cloner.h"
#include "core/tree/xattrs.h"
#include "core/unpack/layer_tree.h"

namespace caisson {

namespace {

constexpr size_t kBuffer = size_t{256} << 10;
constexpr string_view kWhiteout = ".wh.";
constexpr string_view kOpaque = ".wh..wh..opq";
// Holes that are worth a map: readers that know no sparse files are many.
constexpr u64 kHolesMin = u64{1} << 20;
constexpr size_t kExtentsMax = 4096;

int by_name(const void* a, const void* b) {
  return strcmp(static_cast<const String*>(a)->c_str(), static_cast<const String*>(b)->c_str());
}

class TreePacker {
 public:
  TreePacker(PackKind kind, span<const String> exclude, ByteSink& sink)
      : kind_(kind), exclude_(exclude), writer_(sink) {
    buffer_.reserve(kBuffer);
  }

  Status run(Vec<Fd>& dirs) {
    struct stat st = {};
    if (fstat(dirs[0].get(), &st) != 0) return failed("fstat");
    CAISSON_TRY(directory_entry("./", dirs[0].get(), st));
    CAISSON_TRY(directory(dirs, st, 0));
    return writer_.finish();
  }

 private:
  Error failed(const char* call) const { return Error::last(call, path_.view()); }

  // `dirs`: one directory as several layers have it, topmost first.
  Status directory(Vec<Fd>& dirs, const struct stat& st, u32 depth) {
    if (depth > kTreeDepthMax) return Error(ELOOP, "pack", path_.view());
    Vec<String> names;
    for (const Fd& dir : dirs) {
      DirectoryReader reader(dir.get());
      CAISSON_TRY(reader.rewind());
      for (;;) {
        const DirectoryReader::Entry found = CAISSON_TRY(reader.next());
        if (found.name == nullptr) break;
        names.push(String(string_view(found.name)));
      }
    }
    if (!names.empty()) qsort(static_cast<void*>(names.data()), names.size(), sizeof(String), by_name);
    bool dropped = false;
    for (size_t i = 0; i < names.size(); ++i) {
      if (i != 0 && names[i].view() == names[i - 1].view()) continue;
      const PathScope scope(path_, names[i].c_str());
      if (!excluded() && !CAISSON_TRY(entry(dirs, names[i].c_str(), depth))) continue;
      if (kind_ != PackKind::kLayer) continue;
      CAISSON_TRY(remove_tree_at(dirs[0].get(), names[i].c_str()));
      dropped = true;
    }
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    if (dropped && futimens(dirs[0].get(), times) != 0) return failed("futimens");
    return ok();
  }

  bool excluded() const {
    for (const String& path : exclude_)
      if (path.view() == path_.view()) return true;
    return false;
  }

  // True: it is nothing that an archive can hold.
  Result<bool> entry(Vec<Fd>& dirs, const char* name, u32 depth) {
    Vec<Fd> found;
    struct stat top = {};
    for (const Fd& dir : dirs) {
      struct stat st = {};
      if (fstatat(dir.get(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return failed("fstatat");
      }
      if (kind_ == PackKind::kLayer && string_view(name).starts_with(kWhiteout))
        return Error(EINVAL, "pack", path_.view());
      if (is_whiteout(st)) {
        if (kind_ == PackKind::kLayer) CAISSON_TRY(whiteout(name));
        break;
      }
      // what is no directory ends what lies above it, and is hidden by it
      if (!found.empty() && !S_ISDIR(st.st_mode)) break;
      if (S_ISSOCK(st.st_mode)) return true;
      Fd opened = CAISSON_TRY(open_entry(dir.get(), name, st));
      if (!opened) break;
      const bool ends = !S_ISDIR(st.st_mode) || is_opaque_directory(opened.get());
      if (found.empty()) top = st;
      found.push(static_cast<Fd&&>(opened));
      if (ends) break;
    }
    if (found.empty()) return false;
    const int fd = found[0].get();
    if (S_ISDIR(top.st_mode)) {
      String path(path_.view());
      path.append('/');
      CAISSON_TRY(directory_entry(path.view(), fd, top));
      CAISSON_TRY(directory(found, top, depth + 1));
      return false;
    }
    if (top.st_nlink > 1) {
      const String* first = links_.find(top);
      if (first != nullptr) {
        CAISSON_TRY(writer_.entry(path_.view(), '1', first->view(), top, 0, records_));
        return false;
      }
      links_.add(top, path_.view());
    }
    CAISSON_TRY(attributes(fd));
    CAISSON_TRY(S_ISREG(top.st_mode) ? file(fd, top) : special(fd, top));
    return false;
  }

  // No descriptor: it has vanished. `st` becomes that of what was opened.
  Result<Fd> open_entry(int dir, const char* name, struct stat& st) {
    const u64 how = S_ISDIR(st.st_mode)   ? O_RDONLY | O_DIRECTORY
                    : S_ISREG(st.st_mode) ? O_RDONLY | O_NONBLOCK | O_NOCTTY
                                          : O_PATH;
    Result<Fd> opened = open_at2(dir, name, how | O_NOFOLLOW, 0, kTreeBelow);
    if (!opened) {
      const int err = opened.error().err;
      return err == ENOENT || err == ESTALE ? Result<Fd>(Fd()) : Result<Fd>(Error(err, "openat2", path_.view()));
    }
    struct stat now = {};
    if (fstat(opened->get(), &now) != 0) return failed("fstat");
    // swapped by the container, whose tree it is
    if (now.st_ino != st.st_ino || (now.st_mode & S_IFMT) != (st.st_mode & S_IFMT)) return Fd();
    st = now;
    return opened.take();
  }

  Status directory_entry(string_view path, int dir, const struct stat& st) {
    CAISSON_TRY(attributes(dir));
    CAISSON_TRY(writer_.entry(path, '5', {}, st, 0, records_));
    return opaque(dir);
  }

  Status special(int fd, const struct stat& st) {
    if (S_ISLNK(st.st_mode)) {
      char text[4096];
      const ssize_t length = readlinkat(fd, "", text, sizeof text);
      if (length < 0) return failed("readlinkat");
      return writer_.entry(path_.view(), '2', {text, static_cast<size_t>(length)}, st, 0, records_);
    }
    const char type = S_ISCHR(st.st_mode) ? '3' : S_ISBLK(st.st_mode) ? '4' : '6';
    return writer_.entry(path_.view(), type, {}, st, 0, records_);
  }

  // A file of no content that stands for one that is gone; it has no attributes of its own.
  Status whiteout(const char* name) {
    String path(part(path_.view(), 0, path_.view().size() - strlen(name)));
    path.append(kWhiteout).append(string_view(name));
    return mark(path.view());
  }

  Status opaque(int dir) {
    if (kind_ != PackKind::kLayer || !is_opaque_directory(dir)) return ok();
    String path(path_.view());
    if (!path.empty()) path.append('/');
    path.append(kOpaque);
    return mark(path.view());
  }

  Status mark(string_view path) {
    struct stat none = {};
    none.st_mode = 0644;
    return writer_.entry(path, '0', {}, none, 0, records_);
  }

  Status attributes(int fd) {
    const ProcName source(fd);
    XattrNames names;
    CAISSON_TRY(names.read(source.text, path_.view()));
    Vec<String> sorted;
    for (const char* name = names.next(nullptr); name != nullptr; name = names.next(name))
      if (of_tree(name)) sorted.push(String(string_view(name)));
    if (sorted.size() > 1) qsort(static_cast<void*>(sorted.data()), sorted.size(), sizeof(String), by_name);
    XattrValue value;
    for (const String& name : sorted) {
      if (!CAISSON_TRY(value.read(source.text, name.c_str(), path_.view()))) continue;
      String key;
      key.append("SCHILY.xattr.").append(name.view());
      records_.add(key.view(), value.view());
    }
    return ok();
  }

  Status file(int fd, const struct stat& st) {
    const u64 size = static_cast<u64>(st.st_size);
    if (static_cast<u64>(st.st_blocks) * 512 + kHolesMin <= size) {
      Vec<tar::Extent> extents;
      if (CAISSON_TRY(map(fd, size, extents))) {
        CAISSON_TRY(writer_.sparse_entry(path_.view(), st, {extents.data(), extents.size()}, records_));
        for (const tar::Extent& extent : extents) CAISSON_TRY(content(fd, extent.offset, extent.size));
        return writer_.pad();
      }
    }
    CAISSON_TRY(writer_.entry(path_.view(), '0', {}, st, size, records_));
    CAISSON_TRY(content(fd, 0, size));
    return writer_.pad();
  }

  // Where the file has data, and an empty extent at its end where that is a hole. False: the file system does not say,
  // or it is too scattered.
  Result<bool> map(int fd, u64 size, Vec<tar::Extent>& extents) {
    u64 at = 0;
    while (at < size) {
      const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
      if (data < 0 && errno == ENXIO) break;
      if (data < 0) return errno == EINVAL ? Result<bool>(false) : Result<bool>(failed("lseek"));
      if (static_cast<u64>(data) >= size) break;
      const off_t hole = lseek(fd, data, SEEK_HOLE);
      if (hole < 0) return failed("lseek");
      const u64 end = static_cast<u64>(hole) < size ? static_cast<u64>(hole) : size;
      if (extents.size() == kExtentsMax) return false;
      extents.push({static_cast<u64>(data), end - static_cast<u64>(data)});
      at = end;
    }
    if (extents.empty() || extents.back().offset + extents.back().size != size) extents.push({size, 0});
    return true;
  }

  // As many bytes as were announced: zeros for those that are gone meanwhile.
  Status content(int fd, u64 offset, u64 size) {
    u8* const buffer = buffer_.data();
    while (size != 0) {
      const size_t wanted = size < kBuffer ? static_cast<size_t>(size) : kBuffer;
      ssize_t n = pread(fd, buffer, wanted, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failed("pread");
      if (n == 0) {
        memset(buffer, 0, wanted);
        n = static_cast<ssize_t>(wanted);
      }
      CAISSON_TRY(writer_.data({buffer, static_cast<size_t>(n)}));
      offset += static_cast<u64>(n);
      size -= static_cast<u64>(n);
    }
    return ok();
  }

  PackKind kind_;
  span<const String> exclude_;
  tar::Writer writer_;
  tar::PaxRecords records_;
  TreePath path_;
  Links links_;
  Vec<u8> buffer_;
};

}  // namespace

Status pack_tree(span<const int> dirs, PackKind kind, span<const String> exclude, ByteSink& sink) {
  Vec<Fd> own;
  for (const int dir : dirs) {
    own.push(CAISSON_TRY(open_at2(dir, ".", O_RDONLY | O_DIRECTORY, 0, 0)));
    if (is_opaque_directory(own.back().get())) break;
  }
  TreePacker packer(kind, exclude, sink);
  return packer.run(own);
}

}  // namespace caisson
