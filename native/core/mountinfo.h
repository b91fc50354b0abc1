// The mounts of this process's mount namespace, /proc/self/mountinfo: proc(5).
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct MountLine {
  string_view root;  // what of the file system is mounted; escaped
  string_view path;  // mount point, escaped as unescape_mount() undoes it
  string_view type;  // "cgroup2"
};

// Reads line by line, whatever the table's length.
class MountinfoReader {
 public:
  static Result<MountinfoReader> open();
  MountinfoReader(MountinfoReader&&) = default;

  // The next mount, valid until the next call; an empty type at the end. Lines that are none are passed over. EFBIG: a
  // line over 64 KiB (two paths, escaped to four times their length, and options).
  Result<MountLine> next();

 private:
  explicit MountinfoReader(Fd file) : file_(static_cast<Fd&&>(file)) {}
  Fd file_;
  Vec<char> buffer_;
  size_t at_ = 0;
  size_t filled_ = 0;
};

// Blank, tab, newline and backslash stand as three octal digits in mountinfo.
String unescape_mount(string_view text);

}  // namespace caisson
