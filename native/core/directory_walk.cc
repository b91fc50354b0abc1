#include "core/directory_walk.h"

#include <fcntl.h>

#include "core/path.h"
#include "core/uapi.h"

namespace caisson {

Result<Fd> DirectoryWalk::next() {
  constexpr u64 kBelow = uapi::kResolveBeneath | uapi::kResolveNoSymlinks | uapi::kResolveNoXdev;
  if (pending_.empty()) return Fd();
  depth_ = pending_.back().depth;
  name_ = static_cast<String&&>(pending_.back().name);
  pending_.pop();
  while (lengths_.size() > depth_) lengths_.pop();
  path_.truncate(lengths_.empty() ? 0 : lengths_.back());
  if (!path_.empty()) path_.append('/');
  path_.append(name_);
  lengths_.push(path_.size());
  return open_at2(top_, depth_ == 0 ? "." : path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kBelow);
}

}  // namespace caisson
