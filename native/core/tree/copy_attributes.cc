#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/text.h"
#include "core/tree/copy_file.h"
#include "core/uapi.h"

namespace caisson {
namespace {

// /proc/self/fd/N reaches the very inode of an O_PATH descriptor, a symbolic link's too (layer_attributes.cc).
struct ProcName {
  explicit ProcName(int fd) { snprintf(text, sizeof text, "/proc/self/fd/%d", fd); }
  char text[32];
};

bool wanted(string_view name, string_view value, CopyXattrs which) {
  if (name == "trusted.overlay.opaque") return which == CopyXattrs::kLayer && value == "y";
  // origin, impure, nlink: what overlayfs remembers of one mount; redirect and metacopy are never made (stage/root.cc)
  return !name.starts_with("trusted.overlay.") && !name.starts_with("user.overlay.") && name != "security.selinux";
}

Status copy_xattrs(const char* from, const char* to, CopyXattrs which, string_view what) {
  char names[4096];
  char* list = names;
  Vec<char> large;
  ssize_t size = listxattr(from, names, sizeof names);
  if (size < 0 && errno == ERANGE) {
    // 64 KiB is the most that the kernel lists (XATTR_LIST_MAX)
    large.reserve(65536);
    list = large.data();
    size = listxattr(from, list, 65536);
  }
  if (size < 0 && (errno == EOPNOTSUPP || errno == ENODATA)) return ok();
  if (size < 0) return Error::last("listxattr", what);
  char value[4096];
  for (const char* name = list; name < list + size; name += strlen(name) + 1) {
    const char* data = value;
    Vec<char> long_value;
    ssize_t length = getxattr(from, name, value, sizeof value);
    if (length < 0 && errno == ERANGE) {
      long_value.reserve(65536);  // XATTR_SIZE_MAX
      data = long_value.data();
      length = getxattr(from, name, long_value.data(), 65536);
    }
    if (length < 0 && errno == ENODATA) continue;
    if (length < 0) return Error::last("getxattr", what);
    if (!wanted(name, string_view(data, static_cast<size_t>(length)), which)) continue;
    if (setxattr(to, name, data, static_cast<size_t>(length), 0) != 0) return Error::last("setxattr", what);
  }
  return ok();
}

}  // namespace

// Owner before mode and extended attributes: chown(2) clears the set-user-ID bit and security.capability.
Status copy_attributes(int from, int to, const struct stat& st, CopyXattrs which, string_view what) {
  const ProcName source(from);
  const ProcName target(to);
  if (fchownat(to, "", st.st_uid, st.st_gid, uapi::kAtEmptyPath) != 0) return Error::last("fchownat", what);
  if (!S_ISLNK(st.st_mode) && chmod(target.text, st.st_mode & 07777) != 0) return Error::last("chmod", what);
  CAISSON_TRY(copy_xattrs(source.text, target.text, which, what));
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  if (utimensat(to, "", times, uapi::kAtEmptyPath) != 0) return Error::last("utimensat", what);
  return ok();
}

}  // namespace caisson
