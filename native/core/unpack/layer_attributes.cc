#include "core/unpack/layer_attributes.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/tree/xattrs.h"
#include "core/uapi.h"

namespace caisson {
namespace {

Error failed(const char* call, const tar::Entry& entry) { return Error::last(call, entry.path); }

Error xattr_failed(const tar::Entry& entry, const tar::Xattr& xattr) {
  int err = errno;
  String what;
  what.append(xattr.name).append(" of ").append(entry.path);
  return Error(err, "setxattr", what);
}

// Owner before mode and extended attributes: chown(2) clears the set-user-ID bit and security.capability.
Result<u32> set_xattrs(int fd, const char* proc_name, const tar::Entry& entry) {
  u32 left_out = 0;
  bool plain = entry.type == tar::Type::kFile || entry.type == tar::Type::kDirectory;
  for (const tar::Xattr& xattr : entry.xattrs) {
    if (is_foreign_attribute(xattr.name)) continue;
    // xattr(7): user attributes exist on files and directories only, on every file system.
    if (!plain && xattr.name.view().starts_with("user.")) continue;
    int done = proc_name == nullptr
                   ? fsetxattr(fd, xattr.name.c_str(), xattr.value.c_str(), xattr.value.size(), 0)
                   : setxattr(proc_name, xattr.name.c_str(), xattr.value.c_str(), xattr.value.size(), 0);
    if (done == 0) continue;
    if (errno != EOPNOTSUPP || !xattr.name.view().starts_with("user.")) return xattr_failed(entry, xattr);
    ++left_out;
  }
  return left_out;
}

}  // namespace

Status drop_xattrs(int fd, string_view name) { return remove_xattrs(ProcName(fd).text, name); }

bool is_foreign_attribute(string_view name) { return !of_tree(name) || name.starts_with("trusted.caisson."); }

Result<u32> set_attributes(int fd, const tar::Entry& entry, Inborn inborn) {
  if (inborn.xattrs) CAISSON_TRY(drop_xattrs(fd, entry.path));
  if (!inborn.owner && fchown(fd, entry.uid, entry.gid) != 0) return failed("fchown", entry);
  if (!inborn.mode && fchmod(fd, entry.mode) != 0) return failed("fchmod", entry);
  u32 left_out = CAISSON_TRY(set_xattrs(fd, nullptr, entry));
  const struct timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime, entry.mtime_nsec}};
  if (futimens(fd, times) != 0) return failed("futimens", entry);
  return left_out;
}

Result<u32> set_attributes_of_path(int fd, const tar::Entry& entry, Inborn inborn) {
  if (inborn.xattrs) CAISSON_TRY(drop_xattrs(fd, entry.path));
  if (fchownat(fd, "", entry.uid, entry.gid, uapi::kAtEmptyPath) != 0) return failed("fchownat", entry);
  ProcName name(fd);
  if (entry.type != tar::Type::kSymlink && chmod(name.text, entry.mode) != 0) return failed("chmod", entry);
  u32 left_out = CAISSON_TRY(set_xattrs(fd, name.text, entry));
  const struct timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime, entry.mtime_nsec}};
  if (utimensat(fd, "", times, uapi::kAtEmptyPath) != 0) return failed("utimensat", entry);
  return left_out;
}

}  // namespace caisson
