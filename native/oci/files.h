// Files as a whole.
#pragma once

#include "oci/outcome.h"

namespace caisson::oci {

// Everything from the descriptor's offset on. EFBIG beyond `max` bytes; `what` is the object of an error.
Result<String> read_whole(int fd, size_t max, string_view what);
Status write_whole(int fd, string_view text, string_view what);

// To stdout; a write that fails (a closed pipe, a full disk) is an error.
Status print(string_view text);

// A file by path; "-" is stdin where `dash`.
Result<String> read_path(string_view path, size_t max, bool dash = false);

// Written to `fresh`, opened with `flags` (O_EXCL, or O_TRUNC and the like), and renamed over `name`; both relative to
// `dir`. Leaves nothing on error.
Status replace_file(int dir, const String& fresh, const String& name, string_view text, int flags, u32 mode);

// The number in decimal, without a newline; written beside and renamed over, so that a reader finds all or nothing.
Status write_pid_file(string_view path, int pid);

// Of something that failed: it may have gone, and what cannot be removed is a warning.
void remove_file(string_view path);

// The bytes of a configuration that are read; more is refused by name.
inline constexpr size_t kConfigMax =
    (size_t{4} << 20) - 8192;  // the JSON reader's bound, and what is wrapped around it

}  // namespace caisson::oci
