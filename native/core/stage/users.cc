#include "core/stage/users.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

namespace caisson {

namespace {

string_view field(string_view& line) {
  size_t end = line.find(':');
  string_view out = part(line, 0, end);
  line = end == line.npos ? string_view() : part(line, end + 1);
  return out;
}

}  // namespace

IdText parse_id(string_view text, u32& id) {
  if (text.empty()) return IdText::kInvalid;
  for (char c : text) {
    if (c < '0' || c > '9') return IdText::kName;
  }
  u64 value = 0;
  for (char c : text) {
    value = value * 10 + static_cast<u64>(c - '0');
    if (value >= ~u32{0}) return IdText::kInvalid;  // 2^32-1 means "unchanged" to setresuid(2)
  }
  id = static_cast<u32>(value);
  return IdText::kNumber;
}

bool parse_passwd(string_view line, PasswdEntry& out) {
  out.name = field(line);
  field(line);  // password
  string_view uid = field(line);
  string_view gid = field(line);
  field(line);  // comment
  out.home = field(line);
  return !out.name.empty() && parse_id(uid, out.uid) == IdText::kNumber && parse_id(gid, out.gid) == IdText::kNumber;
}

bool parse_group(string_view line, GroupEntry& out) {
  out.name = field(line);
  field(line);
  string_view gid = field(line);
  out.members = field(line);
  return !out.name.empty() && parse_id(gid, out.gid) == IdText::kNumber;
}

bool has_member(const GroupEntry& group, string_view name) {
  string_view rest = group.members;
  while (!rest.empty()) {
    size_t end = rest.find(',');
    if (part(rest, 0, end) == name) return true;
    if (end == rest.npos) break;
    rest.remove_prefix(end + 1);
  }
  return false;
}

bool LineReader::next(string_view& line) {
  for (;;) {
    const void* newline = memchr(buffer_ + from_, '\n', size_ - from_);
    if (newline != nullptr || (end_ && from_ != size_)) {
      size_t to = newline != nullptr ? static_cast<size_t>(static_cast<const char*>(newline) - buffer_) : size_;
      line = string_view(buffer_ + from_, to - from_);
      from_ = newline != nullptr ? to + 1 : to;
      return true;
    }
    if (end_ || error_ != 0) return false;
    memmove(buffer_, buffer_ + from_, size_ - from_);
    size_ -= from_;
    from_ = 0;
    if (size_ == sizeof buffer_ || total_ > file_max_) {
      error_ = E2BIG;
      return false;
    }
    ssize_t n = read(fd_, buffer_ + size_, sizeof buffer_ - size_);
    if (n < 0) {
      if (errno == EINTR) continue;
      error_ = errno;
      return false;
    }
    if (n == 0) end_ = true;
    size_ += static_cast<size_t>(n);
    total_ += static_cast<size_t>(n);
  }
}

}  // namespace caisson
