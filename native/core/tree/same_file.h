// Whether two files are the same, each in a tree of its own.
#pragma once

#include <sys/stat.h>
#include <time.h>

#include "core/base.h"
#include "core/result.h"

namespace caisson {

// Type, mode and owner.
bool same_attributes(const struct stat& a, const struct stat& b);

// Extended attributes but those of overlayfs and of security modules; the descriptors may be O_PATH.
Result<bool> same_xattrs(int a, int b, string_view what);

// The entry `name`, no directory in both, as diff_tree() compares it.
Result<bool> same_entry(int lower, int upper, const char* name, const struct stat& was, const struct stat& is,
                        const timespec& since);

}  // namespace caisson
