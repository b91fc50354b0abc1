// What copies one entry after another; clone_tree() and diff_tree() decide which.
#pragma once

#include <sys/stat.h>

#include "core/base.h"
#include "core/path.h"
#include "core/result.h"
#include "core/tree/clone_tree.h"
#include "core/tree/links.h"

namespace caisson {

inline constexpr u32 kTreeDepthMax = 512;  // two descriptors and some 5 KiB of stack a level

class TreeCloner {
 public:
  // `to`: the top of the copy, which hard links are made from.
  TreeCloner(int to, CloneKind kind, const Cancellation& cancellation)
      : top_(to), kind_(kind), cancellation_(cancellation) {}

  // All that is in one directory to another one, which is there.
  Status directory(int from, int to, u32 depth);
  // The entry `name`, of which path() tells.
  Status entry(int from, int to, const char* name, u32 depth);
  // Attributes, once its content is there, which would change the time.
  Status finish_directory(int from, int to);

  TreePath& path() { return path_; }
  const CloneStats& stats() const { return stats_; }
  Error failed(const char* call) const { return Error::last(call, path_.view()); }
  // Where the copy is to end: ECANCELED, or ELOOP.
  Status go_on(u32 depth) const;

 private:
  Status subdirectory(int from, int to, const char* name, u32 depth);
  Status link(const String& first, int to, const char* name);
  Status file(int from, int to, const char* name, const struct stat& st);
  Status special(int from, int to, const char* name, const struct stat& st);
  template <typename Make>
  Status place(int to, const char* name, const char* call, Make make);
  CopyXattrs xattrs() const { return kind_ == CloneKind::kApply ? CopyXattrs::kTree : CopyXattrs::kLayer; }

  int top_;
  CloneKind kind_;
  const Cancellation& cancellation_;
  TreePath path_;
  Links links_;
  CloneStats stats_;
};

}  // namespace caisson
