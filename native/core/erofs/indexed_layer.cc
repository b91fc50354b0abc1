#include "core/erofs/indexed_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/block_mount.h"
#include "core/erofs/format.h"

namespace caisson {
namespace {

Result<Fd> make_file(int directory, const char* name) {
  Fd file(openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400));
  if (!file) return Error::last("openat", name);
  return file;
}

}  // namespace

Result<IndexedLayer> IndexedLayer::create(int directory, const erofs::IndexForm& form, const tar::Limits& limits,
                                          bool inherits) {
  Fd own(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own) return Error::last("openat", "layer directory");
  Fd file = CAISSON_TRY(make_file(own.get(), kErofsIndex));
  Fd archive;
  if (form.archive) archive = CAISSON_TRY(make_file(own.get(), kErofsArchive));
  erofs::LayerIndex index = CAISSON_TRY(erofs::LayerIndex::create(file.get(), form, limits, inherits));
  return IndexedLayer(static_cast<Fd&&>(own), static_cast<Fd&&>(file), static_cast<Fd&&>(archive),
                      static_cast<erofs::LayerIndex&&>(index));
}

Status IndexedLayer::write(span<const u8> chunk) {
  size_ += chunk.size();
  for (span<const u8> rest = chunk; archive_ && !rest.empty();) {
    const ssize_t n = ::write(archive_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("write", kErofsArchive);
    rest = rest.subspan(static_cast<size_t>(n));
  }
  return index_.write(chunk);
}

Result<LayerStats> IndexedLayer::end() {
  const LayerStats stats = CAISSON_TRY(index_.end());
  // An archive may end within a block, but no loop device does: zeros follow, which no reader of tar minds.
  if (archive_ && ftruncate(archive_.get(), static_cast<off_t>(erofs::round_up(size_, 512))) != 0)
    return Error::last("ftruncate", kErofsArchive);
  return stats;
}

Result<bool> IndexedLayer::settle(LayersBelow below) {
  if (!CAISSON_TRY(index_.settle(static_cast<LayersBelow&&>(below)))) return false;
  const erofs::Inode& root = index_.root();
  if (fchown(directory_.get(), root.uid, root.gid) != 0) return Error::last("fchown", "layer directory");
  if (fchmod(directory_.get(), root.mode & 07777) != 0) return Error::last("fchmod", "layer directory");
  return true;
}

}  // namespace caisson
