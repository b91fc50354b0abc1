// Reading a directory by descriptor, in a buffer of its own size: no allocation, no DIR.
#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson {

// getdents64(2) over a directory opened for reading. Entries "." and ".." are left out.
class DirectoryReader {
 public:
  struct Entry {
    const char* name = nullptr;  // valid until the next call; nullptr: the end
    u8 type = 0;                 // DT_*; DT_UNKNOWN where the file system does not say
  };
  explicit DirectoryReader(int dir) : dir_(dir) {}
  DirectoryReader(const DirectoryReader&) = delete;
  DirectoryReader& operator=(const DirectoryReader&) = delete;

  // Starts again from the first entry.
  Status rewind();
  // A directory that was removed meanwhile ends, as an empty one does.
  Result<Entry> next();

 private:
  int dir_;
  size_t at_ = 0;
  size_t filled_ = 0;
  alignas(8) char buffer_[4096];
};

}  // namespace caisson
