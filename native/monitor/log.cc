#include "monitor/log.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/path.h"
#include "core/uapi.h"
#include "monitor/report.h"

namespace caisson::monitor {

namespace {

// Collects records as iovecs and writes them in batches. A record has at most four parts: prefix, waiting bytes, bytes,
// and the newline where the bytes have none of their own.
class Batch {
 public:
  Batch(LogFile& file, string_view stream, i64 realtime) : file_(file) {
    char time[kTimestampSize];
    format_timestamp(realtime, time);
    size_t n = 0;
    for (string_view part : {string_view(time, sizeof time), string_view(" "), stream, string_view(" F ")}) {
      memcpy(full_ + n, part.data(), part.size());
      n += part.size();
    }
    prefix_size_ = n;
    memcpy(partial_, full_, n);
    partial_[n - 2] = 'P';
  }
  ~Batch() { flush(); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  void record(bool full, string_view waiting, string_view bytes, bool needs_newline) {
    if (count_ + 4 > kParts) flush();
    part(full ? full_ : partial_, prefix_size_);
    part(waiting.data(), waiting.size());
    part(bytes.data(), bytes.size());
    if (needs_newline) part("\n", 1);
    ends_[records_++] = count_;
  }

  void flush() {
    if (records_ != 0) file_.append(parts_, count_, ends_, records_);
    count_ = records_ = 0;
  }

 private:
  static constexpr u32 kParts = 256;
  void part(const char* data, size_t size) {
    if (size != 0) parts_[count_++] = {const_cast<char*>(data), size};
  }
  LogFile& file_;
  char full_[kTimestampSize + 16];
  char partial_[kTimestampSize + 16];
  size_t prefix_size_ = 0;
  iovec parts_[kParts];
  u32 ends_[kParts];
  u32 count_ = 0;
  u32 records_ = 0;
};

}  // namespace

Status LogFile::open(int directory, string_view name) {
  String path(name);
  // O_NONBLOCK: a FIFO in the file's place must not hang the pod; it means nothing on a regular file.
  constexpr u64 kFlags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  constexpr u64 kResolve = uapi::kResolveBeneath | uapi::kResolveNoSymlinks | uapi::kResolveNoMagiclinks;
  auto opened = open_at2(directory, path.c_str(), kFlags, 0640, kResolve);
  // a FIFO that nobody reads, or a socket
  if (!opened && opened.error().err == ENXIO) return Error(EINVAL, "open log: not a regular file", name);
  if (!opened) return opened.error();
  Fd file = opened.take();
  struct stat st {};
  if (fstat(file.get(), &st) != 0) return Error::last("fstat", name);
  if (!S_ISREG(st.st_mode)) return Error(EINVAL, "open log: not a regular file", name);
  file_ = static_cast<Fd&&>(file);
  return ok();
}

void LogFile::append(iovec* parts, u32 count, const u32* ends, u32 records) {
  if (!file_) return;
  u32 first = 0;    // part to go on with
  u32 whole = 0;    // records that are in the file
  size_t torn = 0;  // bytes of record `whole` that are in the file already
  while (first < count) {
    ssize_t n = writev(file_.get(), parts + first, static_cast<int>(count - first));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      int err = n < 0 ? errno : ENOSPC;
      struct stat st {};
      // The monitor is the only writer, so the torn record is the end of the file: without it the next record starts a
      // line.
      if (torn != 0 && fstat(file_.get(), &st) == 0 && st.st_size >= static_cast<off_t>(torn) &&
          ftruncate(file_.get(), st.st_size - static_cast<off_t>(torn)) != 0)
        err = errno;
      note_failure(err, records - whole);
      return;
    }
    for (size_t left = static_cast<size_t>(n); left != 0;) {
      if (left < parts[first].iov_len) {
        parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + left;
        parts[first].iov_len -= left;
        torn += left;
        break;
      }
      left -= parts[first].iov_len;
      torn += parts[first].iov_len;
      ++first;
      if (first == ends[whole]) {
        ++whole;
        torn = 0;
      }
    }
  }
  if (failing_) {
    failing_ = false;
    report(Level::kWarn, "the log is written again; records were lost before", owner_);
  }
}

void LogFile::note_failure(int err, u64 records) {
  lost_ += records;
  if (failing_) return;
  failing_ = true;
  Error error(err, "writev");
  report(Level::kError, "cannot write the log; the container goes on and its output is discarded until this ends",
         owner_, &error);
}

void LogFile::save(HandoverWriter& out, string_view key) const {
  out.json().key(key);
  out.json().begin_object();
  out.fd("file", file_);
  out.json().member("lost", lost_);
  out.json().end_object();
}

void LogFile::restore(const JsonValue& value) {
  file_ = inherited_fd(value["file"]);
  lost_ = value["lost"].u64_or(0);
}

LogStream::~LogStream() { free(pending_); }

void LogStream::set_pending(string_view bytes) {
  if (bytes.empty()) {
    free(pending_);
    pending_ = nullptr;
    pending_size_ = 0;
    return;
  }
  if (pending_ == nullptr) pending_ = static_cast<char*>(malloc(kLogLineMax));
  if (pending_ == nullptr) abort();
  pending_size_ = bytes.size() < kLogLineMax ? bytes.size() : kLogLineMax;
  memmove(pending_, bytes.data(), pending_size_);
}

void LogStream::feed(LogFile& file, string_view bytes, i64 realtime) {
  if (!file.is_open()) return;
  {
    Batch batch(file, name_, realtime);
    while (!bytes.empty()) {
      const void* newline = memchr(bytes.data(), '\n', bytes.size());
      size_t length =
          newline == nullptr ? bytes.size() : static_cast<size_t>(static_cast<const char*>(newline) - bytes.data());
      size_t room = kLogLineMax - pending_size_;
      if (length > room) {
        batch.record(false, pending(), string_view(bytes.data(), room), true);
        bytes.remove_prefix(room);
      } else if (newline != nullptr) {
        batch.record(true, pending(), string_view(bytes.data(), length + 1), false);
        bytes.remove_prefix(length + 1);
      } else {
        break;
      }
      if (pending_size_ != 0) {
        batch.flush();  // its parts point into the waiting bytes
        set_pending({});
      }
    }
  }
  if (bytes.empty()) return;
  if (pending_ == nullptr) {
    set_pending(bytes);
  } else {
    memcpy(pending_ + pending_size_, bytes.data(), bytes.size());
    pending_size_ += bytes.size();
  }
}

void LogStream::finish(LogFile& file, i64 realtime) {
  if (pending_size_ == 0) return;
  {
    Batch batch(file, name_, realtime);
    batch.record(false, pending(), {}, true);
  }
  set_pending({});
}

}  // namespace caisson::monitor
