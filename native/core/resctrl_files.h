// Files of resctrl, below its root's descriptor. resctrl*.cc's own.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// The text of a file, without the newline at its end. EFBIG: longer than `out`.
Result<string_view> rdt_read(int root, string_view path, span<char> out);
// One write(2).
Status rdt_write(int root, string_view path, string_view value);

}  // namespace caisson
