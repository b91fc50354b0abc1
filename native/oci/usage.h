// The texts of --help and --version.
#pragma once

#include "oci/command.h"

namespace caisson::oci {

void append_usage(String& out, span<const Command* const> commands, span<const Flag> globals, string_view root);
void append_usage(String& out, const Command& command);

// First line "runc version <ours>": callers find a runtime that speaks runc's command line by it (go-runc).
void append_version(String& out);

inline constexpr string_view kSpecVersion = "1.3.0";

}  // namespace caisson::oci
