// What the names of a layer's entries say: image-spec layer.md, "Whiteouts".
#pragma once

#include "core/base.h"
#include "core/text.h"

namespace caisson {

inline constexpr string_view kWhiteoutPrefix = ".wh.";

enum class LayerName : u8 {
  kPlain,
  kWhiteout,  // hides what lower layers have under the rest of the name
  kOpaque,    // hides all that they have in its directory
  kAufs,      // a record of aufs: no content of the image
  kReserved,  // a directory on the way has the name of a whiteout
};

// Takes the first component off `rest`; empty at the end.
string_view take_component(string_view& rest);

// Of a clean path.
LayerName classify(string_view path);

// "name -> target", neither of them crowding the other out of an error's object.
String both_names(string_view name, string_view target);

}  // namespace caisson
