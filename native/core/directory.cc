#include "core/directory.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace caisson {
namespace {

struct LinuxDirent64 {  // getdents64(2)
  u64 inode;
  i64 offset;
  u16 length;
  u8 type;
  char name[1];
};

}  // namespace

Status DirectoryReader::rewind() {
  at_ = filled_ = 0;
  if (lseek(dir_, 0, SEEK_SET) != 0) return Error::last("lseek");
  return ok();
}

Result<DirectoryReader::Entry> DirectoryReader::next() {
  for (;;) {
    if (at_ == filled_) {
      long n = syscall(SYS_getdents64, dir_, buffer_, sizeof buffer_);
      // ENOENT: somebody removed the directory that is open here; it has no entries left.
      if (n < 0 && errno != ENOENT) return Error::last("getdents64");
      if (n <= 0) return Entry{};
      at_ = 0;
      filled_ = static_cast<size_t>(n);
    }
    const char* record = buffer_ + at_;
    u16 length = 0;
    memcpy(&length, record + offsetof(LinuxDirent64, length), sizeof length);
    at_ += length;
    const char* name = record + offsetof(LinuxDirent64, name);
    if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'))) continue;
    return Entry{name, static_cast<u8>(record[offsetof(LinuxDirent64, type)])};
  }
}

}  // namespace caisson
