#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/text.h"
#include "core/tree/copy_file.h"

namespace caisson {
namespace {

constexpr int kFiclone = 0x40049409;  // FICLONE of linux/fs.h: _IOW(0x94, 9, int)
// Bytes between two looks at the cancellation: some 10 ms of a disk.
constexpr u64 kPiece = u64{8} << 20;
constexpr size_t kBuffer = size_t{256} << 10;

bool cannot_share(int err) {
  return err == EOPNOTSUPP || err == EXDEV || err == EINVAL || err == ENOTTY || err == ENOSYS || err == EPERM ||
         err == ETXTBSY;
}

Status write_all(int to, const char* data, size_t size, u64 at) {
  while (size != 0) {
    const ssize_t wrote = pwrite(to, data, size, static_cast<off_t>(at));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return Error::last("pwrite");
    data += wrote;
    at += static_cast<u64>(wrote);
    size -= static_cast<size_t>(wrote);
  }
  return ok();
}

// One piece through a buffer of ours: file systems of different kinds, before 5.19.
Result<u64> copy_through_buffer(int from, int to, u64 at, u64 size) {
  Vec<char> buffer;
  buffer.reserve(kBuffer);
  const ssize_t got = pread(from, buffer.data(), size < kBuffer ? size : kBuffer, static_cast<off_t>(at));
  if (got < 0) return Error::last("pread");
  CAISSON_TRY(write_all(to, buffer.data(), static_cast<size_t>(got), at));
  return static_cast<u64>(got);
}

Status copy_range(int from, int to, u64 at, u64 end, bool& in_kernel, const Cancellation& cancellation) {
  while (at < end) {
    if (cancellation.cancelled()) return Error(ECANCELED, "copy");
    const u64 size = end - at < kPiece ? end - at : kPiece;
    u64 copied = 0;
    if (in_kernel) {
      auto source = static_cast<off_t>(at);
      auto target = static_cast<off_t>(at);
      const ssize_t got = copy_file_range(from, &source, to, &target, size, 0);
      if (got < 0 && !cannot_share(errno)) return Error::last("copy_file_range");
      // Nothing, where there is data: some file systems answer so (procfs, and NFS servers with a bound).
      if (got <= 0) in_kernel = false;
      copied = got > 0 ? static_cast<u64>(got) : 0;
    }
    if (!in_kernel) copied = CAISSON_TRY(copy_through_buffer(from, to, at, size));
    if (copied == 0) return ok();  // the file was made shorter meanwhile
    at += copied;
  }
  return ok();
}

}  // namespace

Status copy_data(int from, int to, u64 size, const Cancellation& cancellation) {
  if (size == 0) return ok();
  if (ioctl(to, kFiclone, from) == 0) return ok();
  if (!cannot_share(errno)) return Error::last("ioctl(FICLONE)");
  // The length first: what is not written is a hole.
  if (ftruncate(to, static_cast<off_t>(size)) != 0) return Error::last("ftruncate");
  bool in_kernel = true;
  off_t at = 0;
  while (static_cast<u64>(at) < size) {
    off_t data = lseek(from, at, SEEK_DATA);
    off_t hole = static_cast<off_t>(size);
    if (data < 0 && errno == ENXIO) return ok();
    if (data < 0) {
      data = at;  // the file system knows no holes
    } else {
      const off_t found = lseek(from, data, SEEK_HOLE);
      if (found > data) hole = found;
    }
    const u64 end = static_cast<u64>(hole) < size ? static_cast<u64>(hole) : size;
    CAISSON_TRY(copy_range(from, to, static_cast<u64>(data), end, in_kernel, cancellation));
    at = static_cast<off_t>(end);
  }
  return ok();
}

}  // namespace caisson
