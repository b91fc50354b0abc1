// The directories of a tree, each before those that are in it, with one descriptor however deep it goes. What is kept
// are names of directories that are still to come, so that a hostile tree costs no more than its names.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

class DirectoryWalk {
 public:
  // `top` stays the caller's; it may be O_PATH.
  explicit DirectoryWalk(int top) : top_(top) { pending_.push({}); }

  // The next directory, open for reading; none at the end. Links are not followed, other mounts not entered (EXDEV).
  // ENAMETOOLONG: it lies deeper than PATH_MAX.
  Result<Fd> next();
  // All those that are in the directory which next() has given, and which `dir` is of; or one of them.
  Status add_all(int dir);
  void add(const char* name) { pending_.push({String(string_view(name)), depth_ + 1}); }

  // Of the directory that next() has given: 0 and "" for the top, whose path is "" too.
  u32 depth() const { return depth_; }
  string_view name() const { return name_; }
  string_view path() const { return path_; }

 private:
  struct Pending {
    String name = {};
    u32 depth = 0;
  };

  int top_;
  Vec<Pending> pending_;
  u32 depth_ = 0;
  String name_;
  String path_;
  Vec<size_t> lengths_;  // of the path at each depth
};

}  // namespace caisson
