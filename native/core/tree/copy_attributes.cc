#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/tree/copy_file.h"
#include "core/tree/same_file.h"
#include "core/tree/xattrs.h"
#include "core/uapi.h"

namespace caisson {
namespace {

bool wanted(string_view name, string_view value, CopyXattrs which) {
  // origin, impure, nlink: what overlayfs remembers of one mount; redirect and metacopy are never made (stage/root.cc)
  if (name == "trusted.overlay.opaque") return which == CopyXattrs::kLayer && value == "y";
  return of_tree(name);
}

Status copy_xattrs(const char* from, const char* to, CopyXattrs which, string_view what) {
  XattrNames names;
  CAISSON_TRY(names.read(from, what));
  XattrValue value;
  for (const char* name = names.next(nullptr); name != nullptr; name = names.next(name)) {
    const bool found = CAISSON_TRY(value.read(from, name, what));
    if (!found || !wanted(name, value.view(), which)) continue;
    if (setxattr(to, name, value.view().data(), value.view().size(), 0) != 0) return Error::last("setxattr", what);
  }
  return ok();
}

// Whether all attributes of `a` are ones of `b`.
Result<bool> contained(const char* a, const char* b, string_view what) {
  XattrNames names;
  CAISSON_TRY(names.read(a, what));
  XattrValue left;
  XattrValue right;
  for (const char* name = names.next(nullptr); name != nullptr; name = names.next(name)) {
    if (!of_tree(name)) continue;
    const bool first = CAISSON_TRY(left.read(a, name, what));
    const bool second = CAISSON_TRY(right.read(b, name, what));
    if (first != second || (first && left.view() != right.view())) return false;
  }
  return true;
}

}  // namespace

Result<bool> same_xattrs(int a, int b, string_view what) {
  const ProcName left(a);
  const ProcName right(b);
  if (!CAISSON_TRY(contained(left.text, right.text, what))) return false;
  return contained(right.text, left.text, what);
}

// Owner before mode and extended attributes: chown(2) clears the set-user-ID bit and security.capability.
Status copy_attributes(int from, int to, const struct stat& st, CopyXattrs which, string_view what) {
  const ProcName source(from);
  const ProcName target(to);
  if (fchownat(to, "", st.st_uid, st.st_gid, uapi::kAtEmptyPath) != 0) return Error::last("fchownat", what);
  if (!S_ISLNK(st.st_mode) && chmod(target.text, st.st_mode & 07777) != 0) return Error::last("chmod", what);
  // a directory that was there has attributes of an earlier layer
  if (which == CopyXattrs::kTree && S_ISDIR(st.st_mode)) CAISSON_TRY(remove_xattrs(target.text, what));
  CAISSON_TRY(copy_xattrs(source.text, target.text, which, what));
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  if (utimensat(to, "", times, uapi::kAtEmptyPath) != 0) return Error::last("utimensat", what);
  return ok();
}

}  // namespace caisson
