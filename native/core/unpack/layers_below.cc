#include "core/unpack/layers_below.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "core/path.h"
#include "core/tree/xattrs.h"
#include "core/unpack/layer_tree.h"

namespace caisson {
namespace {

Result<Fd> open_directory(int layer, const String& name) {
  return open_at2(layer, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kTreeBelow);
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

// Whatever else has the name, a whiteout or a link, hides what is further below; so does an opaque directory.
Status LayersBelow::look_at(u16 layer, Directory& directory) const {
  const String name = name_of(directory);
  Result<Fd> found = open_directory(layers_[layer], name);
  if (found) {
    directory.layers.push(layer);
    directory.hidden = is_opaque_directory(found->get());
    return ok();
  }
  const int err = found.error().err;
  if (err == ENOENT) return ok();
  // no image that is made by names of PATH_MAX has a directory so deep
  if (err != ENOTDIR && err != ELOOP && err != ENAMETOOLONG) return Error(err, found.error().call, name);
  directory.hidden = true;
  return ok();
}

// The layer that is number `number` of those that have a directory on the way; -1: there are no more. Those that do not
// have the directory above are not asked, and none before it is needed: a walk costs no more than the layers have
// directories, and mostly no more than the topmost has.
Result<int> LayersBelow::layer(size_t depth, size_t number) {
  Directory& directory = way_[depth];
  while (directory.layers.size() <= number && !directory.hidden) {
    int next = directory.looked_at < layers_.size() ? static_cast<int>(directory.looked_at) : -1;
    if (depth != 0) next = way_[depth - 1].opaque ? -1 : CAISSON_TRY(layer(depth - 1, directory.looked_at));
    if (next < 0) return -1;
    ++directory.looked_at;
    CAISSON_TRY(look_at(static_cast<u16>(next), directory));
  }
  return directory.layers.size() > number ? directory.layers[number] : -1;
}

Result<LayersBelow::Answer> LayersBelow::find() {
  const size_t depth = way_.size() - 1;
  const int found = CAISSON_TRY(layer(depth, 0));
  if (found < 0) {
    bool ended = all_;
    for (size_t i = 0; i <= depth; ++i) ended = ended || way_[i].hidden || (i < depth && way_[i].opaque);
    return Answer{ended, nullptr};
  }
  const Fd fd = CAISSON_TRY(open_directory(layers_[static_cast<size_t>(found)], name_of(way_[depth])));
  CAISSON_TRY(read(fd.get()));
  return Answer{true, &entry_};
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
