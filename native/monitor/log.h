// The log of one container in the CRI format: `<RFC 3339 time> <stdout|stderr> <P|F> <bytes>\n`
// (kubernetes/cri-api runtime/v1/constants.go; kubelet joins P records up to the next F).
#pragma once

#include <sys/uio.h>

#include "core/base.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"
#include "monitor/handover.h"

namespace caisson::monitor {

// Longest content of one record; a longer line is split (containerd's max_container_log_line_size has the same
// default).
inline constexpr size_t kLogLineMax = 16 * 1024;

// The file. Records reach it whole: what a full disk cuts short is cut back to the last whole record.
class LogFile {
 public:
  LogFile() = default;

  // Opens `name` (relative, sub-directories allowed) below `directory`; makes it with mode 0640. Errors: ELOOP or EXDEV
  // where the path holds a symbolic link or leads out (openat2 RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS), EINVAL where it is
  // not a regular file. On error the file that was open before stays in use, and no new file exists.
  Status open(int directory, string_view name);

  // Writes the records; the end of record i is iov index ends[i]. Never fails upward: the container must not stall.
  void append(iovec* parts, u32 count, const u32* ends, u32 records);

  bool is_open() const { return static_cast<bool>(file_); }
  void close() { file_.reset(); }
  u64 lost_records() const { return lost_; }
  void set_owner(string_view container) { owner_ = container; }

  void save(HandoverWriter& out, string_view key) const;
  void restore(const JsonValue& value);

 private:
  void note_failure(int err, u64 records);
  Fd file_;
  string_view owner_;  // names the container in report()
  u64 lost_ = 0;
  bool failing_ = false;
};

// Turns one stream into records. An unfinished line waits here (at most kLogLineMax bytes, allocated while there is
// one).
class LogStream {
 public:
  explicit LogStream(string_view name) : name_(name) {}
  LogStream(const LogStream&) = delete;
  LogStream& operator=(const LogStream&) = delete;
  ~LogStream();

  void feed(LogFile& file, string_view bytes, i64 realtime);
  // At EOF: a last line without a newline becomes a P record, as containerd writes it.
  void finish(LogFile& file, i64 realtime);

  string_view pending() const { return {pending_, pending_size_}; }
  void set_pending(string_view bytes);

 private:
  string_view name_;
  char* pending_ = nullptr;
  size_t pending_size_ = 0;
};

}  // namespace caisson::monitor
