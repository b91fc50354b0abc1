#include "oci/log.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/json.h"

namespace caisson::oci {

namespace {

struct Log {
  int fd = STDERR_FILENO;  // open to the end of the program
  LogFormat format = LogFormat::kText;
  bool debug = false;
} the_log;

constexpr string_view word_of(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      return "error";
  }
  return "";
}

void put(int fd, string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

void append_entry(String& out, LogFormat format, Level level, string_view message, i64 realtime) {
  char stamp[kTimestampSize];
  format_timestamp(realtime, stamp);
  const string_view time(stamp, sizeof stamp);
  if (format == LogFormat::kJson) {
    JsonWriter json(out);
    json.begin_object().member("level", word_of(level)).member("msg", message).member("time", time).end_object();
  } else {
    out.append("time=\"").append(time).append("\" level=").append(word_of(level)).append(" msg=");
    JsonWriter(out).value(message);  // a JSON string is what Go's %q writes for all that occurs here
  }
  out.append('\n');
}

Status open_log(string_view file, LogFormat format, bool debug) {
  the_log.format = format;
  the_log.debug = debug;
  if (file.empty()) return ok();
  const String path(file);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return Error::last("open", file);
  the_log.fd = fd;
  return ok();
}

void log(Level level, string_view message) {
  if (level == Level::kDebug && !the_log.debug) return;
  String line;
  append_entry(line, the_log.format, level, message, realtime_ns());
  put(the_log.fd, line);
}

void log_error(string_view message) {
  // One line, whatever an id or a path in it holds.
  String line;
  for (const char c : message) {
    if (static_cast<u8>(c) >= 0x20 && c != 0x7f) {
      line.append(c);
      continue;
    }
    static constexpr char kDigits[] = "0123456789abcdef";
    line.append("\\x").append(kDigits[static_cast<u8>(c) >> 4]).append(kDigits[c & 0xf]);
  }
  log(Level::kError, line);
  if (the_log.fd == STDERR_FILENO) return;
  line.append('\n');
  put(STDERR_FILENO, line);
}

bool debugging() { return the_log.debug; }

}  // namespace caisson::oci
