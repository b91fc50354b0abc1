#include "core/directory_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/directory.h"
#include "core/path.h"

namespace caisson {
namespace {

Result<bool> is_directory(int parent, const DirectoryReader::Entry& entry) {
  if (entry.type != DT_UNKNOWN) return entry.type == DT_DIR;
  struct stat st;
  if (fstatat(parent, entry.name, &st, AT_SYMLINK_NOFOLLOW) != 0) return Error::last("fstatat", entry.name);
  return S_ISDIR(st.st_mode);
}

}  // namespace

Result<Fd> DirectoryWalk::next() {
  if (pending_.empty()) return Fd();
  depth_ = pending_.back().depth;
  name_ = static_cast<String&&>(pending_.back().name);
  pending_.pop();
  while (lengths_.size() > depth_) lengths_.pop();
  path_.truncate(lengths_.empty() ? 0 : lengths_.back());
  if (!path_.empty()) path_.append('/');
  path_.append(name_);
  lengths_.push(path_.size());
  return open_at2(top_, depth_ == 0 ? "." : path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow);
}

Status DirectoryWalk::add_all(int dir) {
  DirectoryReader reader(dir);
  for (;;) {
    const DirectoryReader::Entry entry = CAISSON_TRY(reader.next());
    if (entry.name == nullptr) return ok();
    if (CAISSON_TRY(is_directory(dir, entry))) add(entry.name);
  }
}

}  // namespace caisson
