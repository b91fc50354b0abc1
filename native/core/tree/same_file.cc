#include "core/tree/same_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/text.h"

namespace caisson {
namespace {

constexpr size_t kPiece = size_t{128} << 10;

bool before(const timespec& a, const timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

Result<size_t> read_piece(int fd, Vec<char>& buffer, string_view what) {
  size_t filled = 0;
  while (filled < kPiece) {
    const ssize_t got = read(fd, buffer.data() + filled, kPiece - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::last("read", what);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  return filled;
}

Result<bool> same_content(int lower, int upper, const char* name) {
  constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  Fd a(openat(lower, name, kFlags));
  if (!a) return Error::last("openat", name);
  Fd b(openat(upper, name, kFlags));
  if (!b) return Error::last("openat", name);
  Vec<char> left;
  Vec<char> right;
  left.reserve(kPiece);
  right.reserve(kPiece);
  for (;;) {
    const size_t first = CAISSON_TRY(read_piece(a.get(), left, name));
    const size_t second = CAISSON_TRY(read_piece(b.get(), right, name));
    if (first != second || memcmp(left.data(), right.data(), first) != 0) return false;
    if (first == 0) return true;
  }
}

Result<bool> same_target(int lower, int upper, const char* name) {
  char a[4096];
  char b[4096];
  const ssize_t first = readlinkat(lower, name, a, sizeof a);
  const ssize_t second = readlinkat(upper, name, b, sizeof b);
  if (first < 0 || second < 0) return Error::last("readlinkat", name);
  return first == second && memcmp(a, b, static_cast<size_t>(first)) == 0;
}

}  // namespace

bool same_attributes(const struct stat& a, const struct stat& b) {
  return a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid;
}

Result<bool> same_entry(int lower, int upper, const char* name, const struct stat& was, const struct stat& is,
                        const timespec& since) {
  const bool device = S_ISCHR(is.st_mode) || S_ISBLK(is.st_mode);
  if (!same_attributes(was, is) || was.st_size != is.st_size || (device && was.st_rdev != is.st_rdev) ||
      was.st_mtim.tv_sec != is.st_mtim.tv_sec || was.st_mtim.tv_nsec != is.st_mtim.tv_nsec)
    return false;
  if (before(is.st_ctim, since)) return true;
  if (S_ISLNK(is.st_mode) && !CAISSON_TRY(same_target(lower, upper, name))) return false;
  if (S_ISREG(is.st_mode) && !CAISSON_TRY(same_content(lower, upper, name))) return false;
  Fd a(openat(lower, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!a) return Error::last("openat", name);
  Fd b(openat(upper, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!b) return Error::last("openat", name);
  return same_xattrs(a.get(), b.get(), name);
}

}  // namespace caisson
