#include "core/tree_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/directory.h"
#include "core/directory_walk.h"
#include "core/path.h"
#include "core/text.h"

namespace caisson {
namespace {

constexpr u64 kBlock = 512;  // of st_blocks, stat(3type)

// Inodes with several names that were met: open addressing, at most half full.
class Met {
 public:
  // False: it was there.
  bool add(u64 inode) {
    if ((used_ + 1) * 2 > slots_.size()) grow();
    u64& slot = find(inode);
    if (slot == inode) return false;
    slot = inode;
    ++used_;
    return true;
  }

 private:
  // 0 is no inode number that a file has.
  u64& find(u64 inode) {
    size_t at = static_cast<size_t>(inode * 0x9e3779b97f4a7c15u) & (slots_.size() - 1);
    while (slots_[at] != 0 && slots_[at] != inode) at = (at + 1) & (slots_.size() - 1);
    return slots_[at];
  }
  void grow() {
    Vec<u64> old = static_cast<Vec<u64>&&>(slots_);
    size_t size = old.empty() ? 64 : old.size() * 2;
    slots_ = Vec<u64>();
    slots_.reserve(size);
    for (size_t i = 0; i < size; ++i) slots_.push(0);
    for (u64 inode : old)
      if (inode != 0) find(inode) = inode;
  }
  Vec<u64> slots_;
  size_t used_ = 0;
};

class Counter {
 public:
  explicit Counter(int top) : top_(top) {}

  Result<TreeUsage> count() {
    struct stat st {};
    if (fstat(top_, &st) != 0) return Error::last("fstat");
    add(st);
    DirectoryWalk walk(top_);
    for (;;) {
      const Fd dir = CAISSON_TRY(walk.next());
      if (!dir) return usage_;
      CAISSON_TRY(directory(dir.get(), walk));
    }
  }

 private:
  void add(const struct stat& st) {
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && !met_.add(st.st_ino)) return;
    usage_.bytes += static_cast<u64>(st.st_blocks) * kBlock;
    if (S_ISREG(st.st_mode)) usage_.content += static_cast<u64>(st.st_size);
    ++usage_.inodes;
  }

  Status directory(int dir, DirectoryWalk& walk) {
    DirectoryReader reader(dir);
    for (;;) {
      DirectoryReader::Entry entry = CAISSON_TRY(reader.next());
      if (entry.name == nullptr) return ok();
      struct stat st {};
      if (fstatat(dir, entry.name, &st, AT_SYMLINK_NOFOLLOW) != 0) return Error::last("fstatat", entry.name);
      add(st);
      if (S_ISDIR(st.st_mode)) walk.add(entry.name);
    }
  }

  int top_;
  TreeUsage usage_;
  Met met_;
};

}  // namespace

Result<TreeUsage> tree_usage_at(int dir, const char* name) {
  if (!is_file_name(name)) return Error(EINVAL, "openat2", name);
  Fd top = CAISSON_TRY(open_at2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow));
  return Counter(top.get()).count();
}

}  // namespace caisson
