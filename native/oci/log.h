// What the command has to say: to stderr, or to the file of --log in the format of --log-format, one line an entry as
// logrus writes them. containerd takes the last line of level "error" of the file, podman its `msg`.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "oci/outcome.h"

namespace caisson::oci {

enum class Level { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// One entry, with its newline.
void append_entry(String& out, LogFormat format, Level level, string_view message, i64 realtime);

// Settings for the rest of the program. `file` "" is stderr; else it is opened for appending, created with mode 0644.
Status open_log(string_view file, LogFormat format, bool debug);

// kDebug says nothing without --debug. An entry that cannot be written is lost: there is nobody to tell.
void log(Level level, string_view message);

// An error, which reaches stderr whatever --log says.
void log_error(string_view message);

bool debugging();

}  // namespace caisson::oci
