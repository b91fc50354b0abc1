// Directories of a layer that no entry of it describes: made for what is in them. While the layer is being made each
// has the mark trusted.caisson.implied, which an entry of its own takes off; then they take over what layers below say.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/unpack/layers_below.h"

namespace caisson {

Status mark_implied(int dirfd, string_view name);
// Takes the mark off, where there is one. Returns whether there was.
Result<bool> clear_implied(int dirfd, string_view name);

// Gives every directory with a mark in the tree of a layer, whose top was entered, what layers below say of it, and
// takes the mark off. One descriptor, however deep it goes.
Status inherit(int top, LayersBelow& below);

}  // namespace caisson
