// Project quotas: a bound on, and an account of, what lies below a directory, kept by ext4 (feature `project`, mounted
// with prjquota) and xfs. quotactl_fd(2): Linux 5.14.
#pragma once

#include "core/base.h"
#include "core/result.h"

namespace caisson {

struct ProjectUsage {
  u64 bytes = 0;
  u64 inodes = 0;
};

// Gives the empty directory a project of its own, which all that is made below it inherits, with a limit of `bytes`.
// Writers beyond it meet EDQUOT (ext4) or ENOSPC (xfs). ENOTSUP: the file system keeps no project quotas.
Status limit_project(int dir, u64 bytes);

// What the directory's project holds. ENODATA: it has none of its own. No walk.
Result<ProjectUsage> project_usage(int dir);

// Takes the limit away, of whatever project the directory `name` below `parent` is; without one, or a directory,
// nothing happens.
Status release_project(int parent, const char* name);

}  // namespace caisson
