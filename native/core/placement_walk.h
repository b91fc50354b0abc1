// From the root of the cgroup2 mount to a container's cgroup, enabling controllers along the way. placement.cc's own.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct WalkedCgroup {
  Fd cgroup;
  String made;         // the topmost cgroup made on the way, "" for none
  bool fresh = false;  // the last one was made here
};

// Walks `path` (absolute, clean) below `root`, which has `controllers`. Every controller that a cgroup on the way has
// is handed down to its children, so that the container's has all its files, for statistics and for what it delegates
// itself; the kernel may refuse (threads of real-time classes, processes in the way), which matters for `needed` ones
// only. `make`: cgroups that are not there are made; removed again on error. Errors: ENOENT; ENOTSUP "<controller> (not
// in cgroup.controllers of …)"; EOPNOTSUPP: as of check_domain, for one that was there; those of mkdir(2) and of the
// write to cgroup.subtree_control for a needed controller.
Result<WalkedCgroup> walk_cgroup(int root, string_view controllers, string_view path, span<const string_view> needed,
                                 bool make);

// EOPNOTSUPP: a threaded or invalid cgroup, which takes no container.
Status check_domain(int cgroup, string_view path);

// The topmost cgroup on the way that this process may enable controllers in: what its cgroup.controllers has is what
// the last one can have. No descriptor: it is the root. EACCES: there is none.
Result<Fd> granting_cgroup(int root, string_view path);

}  // namespace caisson
