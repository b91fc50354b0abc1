#include "core/unpack/layers_below.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "core/path.h"
#include "core/tree/xattrs.h"
#include "core/uapi.h"
#include "core/unpack/layer_tree.h"

namespace caisson {
namespace {

constexpr u64 kBelow = uapi::kResolveBeneath | uapi::kResolveNoSymlinks | uapi::kResolveNoXdev;

Result<Fd> open_directory(int layer, const String& name) {
  return open_at2(layer, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kBelow);
}

}  // namespace

void LayersBelow::enter(u32 depth, string_view name, bool opaque) {
  while (way_.size() > depth) way_.pop();
  path_.truncate(way_.empty() ? 0 : way_.back().length);
  if (!path_.empty()) path_.append('/');
  path_.append(name);
  way_.push({path_.size(), opaque});
}

String LayersBelow::name_of(const Directory& directory) const {
  return String(directory.length == 0 ? string_view(".") : part(path_, 0, directory.length));
}

// Asked of those layers alone that have the directory above, so that all of a walk costs no more than the layers have
// directories. Whatever else has the name, a whiteout or a link, hides what is further below; so does an opaque one.
Status LayersBelow::look_up(const Directory& above, Directory& directory) const {
  const String name = name_of(directory);
  for (const u16 layer : above.layers) {
    Result<Fd> found = open_directory(layers_[layer], name);
    if (!found) {
      const int err = found.error().err;
      if (err == ENOENT) continue;
      // no image that is made by names of PATH_MAX has a directory so deep
      if (err == ENOTDIR || err == ELOOP || err == ENAMETOOLONG) break;
      return Error(err, found.error().call, name);
    }
    directory.layers.push(layer);
    if (is_opaque_directory(found->get())) break;
  }
  return ok();
}

Result<const tar::Entry*> LayersBelow::find() {
  Directory all;
  for (size_t i = 0; i < layers_.size(); ++i) all.layers.push(static_cast<u16>(i));
  for (size_t i = 0; i < way_.size(); ++i) {
    if (way_[i].known) continue;
    if (i == 0 || !way_[i - 1].opaque) CAISSON_TRY(look_up(i == 0 ? all : way_[i - 1], way_[i]));
    way_[i].known = true;
  }
  const Directory& last = way_.back();
  if (last.layers.empty()) return nullptr;
  const Fd fd = CAISSON_TRY(open_directory(layers_[last.layers[0]], name_of(last)));
  CAISSON_TRY(read(fd.get()));
  return &entry_;
}

Status LayersBelow::read(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return Error::last("fstat", path_);
  entry_ = {};
  entry_.type = tar::Type::kDirectory;
  entry_.path.append(path_);
  entry_.mode = st.st_mode & 07777;
  entry_.uid = st.st_uid;
  entry_.gid = st.st_gid;
  entry_.mtime = st.st_mtim.tv_sec;
  entry_.mtime_nsec = static_cast<u32>(st.st_mtim.tv_nsec);
  const ProcName path(fd);
  XattrNames names;
  CAISSON_TRY(names.read(path.text, path_));
  XattrValue value;
  for (const char* name = names.next(nullptr); name != nullptr; name = names.next(name)) {
    if (of_tree(name) && CAISSON_TRY(value.read(path.text, name, path_)))
      entry_.xattrs.push({String(string_view(name)), String(value.view())});
  }
  return ok();
}

}  // namespace caisson
