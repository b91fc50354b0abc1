// All extended attributes of an inode, whatever kind it is of.
#pragma once

#include <stdio.h>
#include <sys/xattr.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// /proc/self/fd/N reaches the very inode of an O_PATH descriptor, a symbolic link's too, for calls that have no
// AT_EMPTY_PATH on Linux 6.1 (fchmodat2 came with 6.6, setxattrat with 6.13).
struct ProcName {
  explicit ProcName(int fd) { snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
  char text[32];
};

// The names, each with its NUL; none where the file system has no attributes.
class XattrNames {
 public:
  Status read(const char* path, string_view what) {
    ssize_t size = listxattr(path, small_, sizeof small_);
    if (size < 0 && errno == ERANGE) {
      large_.reserve(kMax);
      data_ = large_.data();
      size = listxattr(path, data_, kMax);
    }
    if (size < 0 && (errno == EOPNOTSUPP || errno == ENODATA)) size = 0;
    if (size < 0) return Error::last("listxattr", what);
    size_ = static_cast<size_t>(size);
    return ok();
  }
  // The name after `name`; nullptr: the first. Returns nullptr at the end.
  const char* next(const char* name) const {
    const char* following = name == nullptr ? data_ : name + strlen(name) + 1;
    return following < data_ + size_ ? following : nullptr;
  }

 private:
  static constexpr size_t kMax = 65536;  // XATTR_LIST_MAX
  char small_[1024];
  Vec<char> large_;
  char* data_ = small_;
  size_t size_ = 0;
};

class XattrValue {
 public:
  // False: the inode has none of this name.
  Result<bool> read(const char* path, const char* name, string_view what) {
    data_ = small_;
    ssize_t size = getxattr(path, name, small_, sizeof small_);
    if (size < 0 && errno == ERANGE) {
      large_.reserve(kMax);
      data_ = large_.data();
      size = getxattr(path, name, large_.data(), kMax);
    }
    if (size < 0 && errno == ENODATA) return false;
    if (size < 0) return Error::last("getxattr", what);
    size_ = static_cast<size_t>(size);
    return true;
  }
  string_view view() const { return {data_, size_}; }

 private:
  static constexpr size_t kMax = 65536;  // XATTR_SIZE_MAX
  char small_[1024];
  Vec<char> large_;
  const char* data_ = small_;
  size_t size_ = 0;
};

// Whether an attribute belongs to a tree as programs see it: overlayfs' own are of one mount, a label is of the host's
// policy.
inline bool of_tree(string_view name) {
  return !name.starts_with("trusted.overlay.") && !name.starts_with("user.overlay.") && name != "security.selinux";
}

// Takes off all that belong to the tree.
inline Status remove_xattrs(const char* path, string_view what) {
  XattrNames names;
  CAISSON_TRY(names.read(path, what));
  for (const char* name = names.next(nullptr); name != nullptr; name = names.next(name))
    if (of_tree(name) && removexattr(path, name) != 0 && errno != ENODATA) return Error::last("removexattr", what);
  return ok();
}

}  // namespace caisson
