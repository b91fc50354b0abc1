// Directories of a layer that no entry of it describes: made for what is in them. While the layer is being made each
// has the mark trusted.caisson.implied, which an entry of its own takes off; then they take over what layers below say.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/unpack/layers_below.h"

namespace caisson {

Status mark_implied(int dirfd, string_view name);

// Gives every directory with a mark in the tree of a layer what layers below say of it, and takes the mark off. One
// descriptor, however deep it goes. False: layers further below are to be asked, of what has its mark still.
Result<bool> inherit(int top, LayersBelow& below);

}  // namespace caisson
