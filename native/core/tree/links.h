// What a walk over a tree remembers: where it is, and the first name of every file that has several.
#pragma once

#include <sys/stat.h>

#include "core/base.h"
#include "core/text.h"

namespace caisson {

// The path below the top of the walk, "" at the top; may be longer than PATH_MAX.
class TreePath {
 public:
  string_view view() const { return text_.view(); }

 private:
  friend class PathScope;
  String text_;
};

// One more component, for as long as the scope lasts.
class PathScope {
 public:
  PathScope(TreePath& path, const char* name) : path_(path), size_(path.text_.size()) {
    if (size_ != 0) path_.text_.append('/');
    path_.text_.append(string_view(name));
  }
  PathScope(const PathScope&) = delete;
  PathScope& operator=(const PathScope&) = delete;
  ~PathScope() { path_.text_.truncate(size_); }

 private:
  TreePath& path_;
  size_t size_;
};

// Open addressing by inode. A tree lies on one file system, but an overlay's layers may be on several.
class Links {
 public:
  // The first name of the file, below the top; null: none was added.
  const String* find(const struct stat& st) const {
    if (slots_.empty()) return nullptr;
    for (size_t i = at(st);; i = (i + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[i];
      if (slot.path.empty()) return nullptr;
      if (slot.inode == st.st_ino && slot.device == st.st_dev) return &slot.path;
    }
  }

  void add(const struct stat& st, string_view path) {
    // Names that linkat(2) cannot take are as good as none: the file becomes several.
    if (path.size() >= 4096) return;
    if ((used_ + 1) * 2 > slots_.size()) grow();
    insert(st.st_dev, st.st_ino, String(path));
  }

 private:
  struct Slot {
    u64 device = 0;
    u64 inode = 0;
    String path = {};
  };
  size_t at(u64 inode) const { return (inode * 0x9e3779b97f4a7c15u >> 32) & (slots_.size() - 1); }
  size_t at(const struct stat& st) const { return at(st.st_ino); }
  void insert(u64 device, u64 inode, String path) {
    size_t i = at(inode);
    while (!slots_[i].path.empty()) i = (i + 1) & (slots_.size() - 1);
    slots_[i].device = device;
    slots_[i].inode = inode;
    slots_[i].path = static_cast<String&&>(path);
    ++used_;
  }
  void grow() {
    const size_t size = slots_.empty() ? 64 : slots_.size() * 2;
    Vec<Slot> old = static_cast<Vec<Slot>&&>(slots_);
    slots_.reserve(size);
    for (size_t i = 0; i < size; ++i) slots_.push({});
    used_ = 0;
    for (Slot& slot : old)
      if (!slot.path.empty()) insert(slot.device, slot.inode, static_cast<String&&>(slot.path));
  }
  Vec<Slot> slots_;
  size_t used_ = 0;
};

}  // namespace caisson
