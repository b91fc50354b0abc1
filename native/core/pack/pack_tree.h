// A tree on disk becomes an archive: the same tree, the same bytes.
#pragma once

#include "core/base.h"
#include "core/byte_sink.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

enum class PackKind {
  kTree,  // what the layers make together
  // One layer: its whiteouts and opaque directories as image-spec layer.md has them. What is left out of the archive is
  // removed from the tree, which is the caller's own, so that both are the same.
  kLayer,
};

// Writes the tree that the layers in `dirs` (overlayfs' form, topmost first) make, with its top ("./"): type, mode,
// owner, extended attributes but overlayfs' own, hard links, devices, times to the nanosecond, holes of large files;
// the entries of each directory in the order of their names. Sockets, which tar has not, are left out. Links are never
// followed, mounts never entered. What vanishes meanwhile is left out, what changes has the length that it had; whoever
// wants more pauses the writer. `exclude`: paths below the top, "etc/hosts", left out with all that is below them.
// Errors: those of the tree and the sink; EINVAL: a name of a layer that would be a whiteout; ELOOP: deeper than 512.
Status pack_tree(span<const int> dirs, PackKind kind, span<const String> exclude, ByteSink& sink);

}  // namespace caisson
