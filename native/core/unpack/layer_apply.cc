#include "core/unpack/layer_apply.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/uapi.h"
#include "core/unpack/implied.h"
#include "core/unpack/layer_names.h"

namespace caisson {
namespace {

// Runs `make` (0, or -1 with errno); where the name is taken, removes what has it and tries again.
template <typename F>
Status replacing(int parent, const char* name, string_view path, const char* call, F make) {
  if (make() == 0) return ok();
  if (errno != EEXIST) return Error::last(call, path);
  CAISSON_TRY(evict(parent, name, path));
  if (make() != 0) return Error::last(call, path);
  return ok();
}

}  // namespace

Result<LayerApply> LayerApply::create(int dirfd, const tar::Limits& limits, bool inherits, mode_t mask) {
  return LayerApply(CAISSON_TRY(LayerTree::open(dirfd, inherits)), limits, inherits, mask);
}

Status LayerApply::write(span<const u8> chunk) {
  using Event = tar::Reader::Event;
  for (;;) {
    switch (CAISSON_TRY(reader_.next(chunk))) {
      case Event::kMore:
        return ok();
      case Event::kEntry:
        CAISSON_TRY(begin(reader_.entry()));
        break;
      case Event::kData:
        CAISSON_TRY(put_data(reader_.offset(), reader_.data()));
        break;
      case Event::kEntryEnd:
        CAISSON_TRY(end_entry(reader_.entry()));
        break;
    }
  }
}

Result<LayerStats> LayerApply::end() {
  CAISSON_TRY(reader_.finish());
  CAISSON_TRY(tree_.settle());
  stats_.entries = reader_.entries();
  stats_.implied = tree_.implied();
  return stats_;
}

Result<bool> LayerApply::settle(LayersBelow below) {
  if (stats_.implied_root) {
    below.enter(0, "", stats_.opaque_root);
    const LayersBelow::Answer answer = CAISSON_TRY(below.find());
    if (!answer.known) return false;
    if (answer.entry != nullptr) CAISSON_TRY(set_attributes(tree_.root(), *answer.entry));
    stats_.implied_root = false;
  }
  return stats_.implied != 0 ? inherit(tree_.root(), below) : true;
}

Status LayerApply::begin(const tar::Entry& entry) {
  file_.reset();
  CAISSON_TRY(clean_name(entry.path, path_));
  if (path_.empty()) return begin_root(entry);

  LayerName kind = classify(path_);
  if (kind == LayerName::kAufs) return ok();
  if (kind == LayerName::kReserved) return Error(EINVAL, "unpack: a parent has the name of a whiteout", entry.path);

  int parent = CAISSON_TRY(tree_.parent_of(path_, entry.mtime, leaf_));
  const char* name = leaf_.c_str();
  if (kind == LayerName::kOpaque) {
    if (leaf_.size() == path_.size()) stats_.opaque_root = true;
    return make_opaque(parent, path_);
  }
  if (kind == LayerName::kWhiteout) return whiteout(parent, name + kWhiteoutPrefix.size());

  switch (entry.type) {
    case tar::Type::kDirectory:
      return make_directory_entry(parent, name, entry);
    case tar::Type::kFile:
      return make_file(parent, name, entry);
    case tar::Type::kHardLink:
      return make_hard_link(parent, name, entry);
    default:
      return make_special(parent, name, entry);
  }
}

// The merged root has owner and mode of the topmost layer's root: an entry for "./" sets them.
Status LayerApply::begin_root(const tar::Entry& entry) {
  if (entry.type != tar::Type::kDirectory)
    return Error(ENOTDIR, "unpack: an entry would replace the layer's root", entry.path);
  CAISSON_TRY(tree_.settle());
  stats_.implied_root = false;
  stats_.xattrs_left_out += CAISSON_TRY(set_attributes(tree_.root(), entry, {.xattrs = true}));
  return ok();
}

// A whiteout speaks of lower layers only, wherever it stands in the archive: beside an entry of its own layer with the
// same name, that entry stays and hides the lower one by itself; a directory does so by being opaque.
Status LayerApply::whiteout(int parent, const char* name) {
  string_view what(name);
  // ".wh..": the directory itself; ".wh...": its parent
  if (what.empty() || what == "." || what == "..") return Error(EINVAL, "unpack: a whiteout of no entry", path_);
  if (mknodat(parent, name, S_IFCHR, makedev(0, 0)) == 0) return mark_whiteouts(parent, path_);
  if (errno != EEXIST) return Error::last("mknodat", path_);
  struct stat st;
  if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return Error::last("fstatat", path_);
  if (!S_ISDIR(st.st_mode)) return ok();
  Fd dir = CAISSON_TRY(open_leaf(parent, name, O_RDONLY | O_DIRECTORY, 0, path_));
  return make_opaque(dir.get(), path_);
}

// A directory that takes the place of anything else is opaque: a whiteout or file there had hidden the directories
// below, and goes on doing so.
Status LayerApply::make_directory_entry(int parent, const char* name, const tar::Entry& entry) {
  bool replaced = false;
  Inborn inborn = {.xattrs = tree_.hands_a_list_down()};
  if (mkdirat(parent, name, 0700) != 0) {
    if (errno != EEXIST) return Error::last("mkdirat", path_);
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return Error::last("fstatat", path_);
    if (!S_ISDIR(st.st_mode)) {
      replaced = true;
      if (unlinkat(parent, name, 0) != 0) return Error::last("unlinkat", path_);
      if (mkdirat(parent, name, 0700) != 0) return Error::last("mkdirat", path_);
    } else {
      inborn.xattrs = true;
    }
  }
  Fd dir = CAISSON_TRY(open_leaf(parent, name, O_RDONLY | O_DIRECTORY, 0, path_));
  if (replaced) CAISSON_TRY(make_opaque(dir.get(), path_));
  stats_.xattrs_left_out += CAISSON_TRY(set_attributes(dir.get(), entry, inborn));
  return ok();
}

// O_EXCL: an existing file is never written through, since it may be a hard link whose other names are to stay.
// Most files are root's and of an ordinary mode: they are born so, and two calls of six are saved. Bits beyond it come
// when the content is there.
Status LayerApply::make_file(int parent, const char* name, const tar::Entry& entry) {
  const bool plain = tree_.hands_nothing_down(gid_);
  inborn_.owner = plain && entry.uid == uid_ && entry.gid == gid_;
  inborn_.xattrs = tree_.hands_a_list_down();
  inborn_.mode = plain && (entry.mode & (mask_ | ~0777U)) == 0;
  const u32 mode = inborn_.mode ? entry.mode : 0600;
  auto create = [&] { return open_leaf(parent, name, O_WRONLY | O_CREAT | O_EXCL, mode, path_); };
  Result<Fd> made = create();
  if (!made && made.error().err == EEXIST) {
    CAISSON_TRY(evict(parent, name, path_));
    file_ = CAISSON_TRY(create());
  } else {
    file_ = CAISSON_TRY(static_cast<Result<Fd>&&>(made));
  }
  return ok();
}

// The target is looked up in this layer alone, below its root, and the link is made to the inode that was found. A
// link's header repeats the attributes of its target; setting them again would clear the target's capabilities.
Status LayerApply::make_hard_link(int parent, const char* name, const tar::Entry& entry) {
  Status clean = clean_name(entry.link, link_);
  if (!clean) return Error(clean.error().err, clean.error().call, both_names(entry.path, entry.link));
  Result<Fd> target = tree_.find(link_);
  if (!target) return Error(target.error().err, "unpack: target of a hard link", both_names(entry.path, entry.link));
  struct stat st;
  if (fstat(target->get(), &st) != 0) return Error::last("fstat", both_names(entry.path, entry.link));
  if (S_ISDIR(st.st_mode)) return Error(EISDIR, "unpack: target of a hard link", both_names(entry.path, entry.link));
  struct stat existing;
  if (fstatat(parent, name, &existing, AT_SYMLINK_NOFOLLOW) == 0 && existing.st_dev == st.st_dev &&
      existing.st_ino == st.st_ino)
    return ok();  // linked already: removal of the name first might remove the target itself
  return replacing(parent, name, both_names(entry.path, entry.link), "linkat",
                   [&] { return linkat(target->get(), "", parent, name, uapi::kAtEmptyPath); });
}

Status LayerApply::make_special(int parent, const char* name, const tar::Entry& entry) {
  switch (entry.type) {
    case tar::Type::kSymlink:
      CAISSON_TRY(
          replacing(parent, name, path_, "symlinkat", [&] { return symlinkat(entry.link.c_str(), parent, name); }));
      break;
    case tar::Type::kFifo:
      CAISSON_TRY(replacing(parent, name, path_, "mknodat", [&] { return mknodat(parent, name, S_IFIFO | 0600, 0); }));
      break;
    default: {
      // A device 0:0 is a whiteout to overlayfs, as it was where such a layer was made: from an upper directory.
      mode_t type = entry.type == tar::Type::kCharDevice ? S_IFCHR : S_IFBLK;
      CAISSON_TRY(replacing(parent, name, path_, "mknodat", [&] {
        return mknodat(parent, name, type | 0600, makedev(entry.dev_major, entry.dev_minor));
      }));
      if (type == S_IFCHR && entry.dev_major == 0 && entry.dev_minor == 0) CAISSON_TRY(mark_whiteouts(parent, path_));
      break;
    }
  }
  Fd made = CAISSON_TRY(open_leaf(parent, name, O_PATH, 0, path_));
  stats_.xattrs_left_out +=
      CAISSON_TRY(set_attributes_of_path(made.get(), entry, {.xattrs = tree_.hands_a_list_down()}));
  return ok();
}

Status LayerApply::put_data(u64 offset, span<const u8> data) {
  if (!file_) return ok();  // a whiteout with content, or a record of aufs
  stats_.bytes += data.size();
  while (!data.empty()) {
    ssize_t n = pwrite(file_.get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("pwrite", path_);
    offset += static_cast<u64>(n);
    data = data.subspan(static_cast<size_t>(n));
  }
  return ok();
}

Status LayerApply::end_entry(const tar::Entry& entry) {
  if (!file_) return ok();
  // Holes stay holes: only extents are written, and the size may end in one.
  if (entry.sparse && ftruncate(file_.get(), static_cast<off_t>(entry.size)) != 0)
    return Error::last("ftruncate", path_);
  // Last, since writing clears security.capability and moves the time.
  stats_.xattrs_left_out += CAISSON_TRY(set_attributes(file_.get(), entry, inborn_));
  file_.reset();
  return ok();
}

}  // namespace caisson
