// Owner, mode, extended attributes and time of an extracted entry.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/unpack/tar_reader.h"

namespace caisson {

// `fd` is open for reading or writing: a file whose data is complete, or a directory.
Status set_attributes(int fd, const tar::Entry& entry);

// `fd` is an O_PATH descriptor of a link, device or FIFO, which cannot be opened (or not without side effects).
Status set_attributes_of_path(int fd, const tar::Entry& entry);

}  // namespace caisson
