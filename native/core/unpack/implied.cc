#include "core/unpack/implied.h"

#include <sys/xattr.h>

#include "core/directory_walk.h"
#include "core/unpack/layer_attributes.h"
#include "core/unpack/layer_tree.h"

namespace caisson {
namespace {

constexpr const char* kMark = "trusted.caisson.implied";

bool is_implied(int dirfd) { return fgetxattr(dirfd, kMark, nullptr, 0) >= 0; }

}  // namespace

Status mark_implied(int dirfd, string_view name) {
  if (fsetxattr(dirfd, kMark, "", 0, 0) != 0) return Error::last("fsetxattr trusted.caisson.implied", name);
  return ok();
}

Result<bool> inherit(int top, LayersBelow& below) {
  bool all = true;
  DirectoryWalk walk(top);
  for (;;) {
    const Fd dir = CAISSON_TRY(walk.next());
    if (!dir) return all;
    below.enter(walk.depth(), walk.name(), is_opaque_directory(dir.get()));
    if (is_implied(dir.get())) {
      const LayersBelow::Answer answer = CAISSON_TRY(below.find());
      if (answer.entry != nullptr) CAISSON_TRY(set_attributes(dir.get(), *answer.entry));
      if (answer.known && fremovexattr(dir.get(), kMark) != 0) return Error::last("fremovexattr", walk.path());
      all = all && answer.known;
    }
    CAISSON_TRY(walk.add_all(dir.get()));
  }
}

}  // namespace caisson
