// passwd(5) and group(5) of a root file system: hostile content, read with bounds, without NSS (which would load
// libraries of the container into our process: CVE-2019-14271).
#pragma once

#include "core/base.h"

namespace caisson {

struct PasswdEntry {
  string_view name;
  u32 uid = 0;
  u32 gid = 0;
  string_view home;
};

struct GroupEntry {
  string_view name;
  u32 gid = 0;
  string_view members;  // "a,b,c"
};

bool parse_passwd(string_view line, PasswdEntry& out);
bool parse_group(string_view line, GroupEntry& out);
bool has_member(const GroupEntry& group, string_view name);

// What a text in the place of an id is. Digits only are a number and never looked up as a name, even where they do not
// fit 32 bits (CVE-2024-40635, CVE-2026-46680).
enum class IdText { kNumber, kName, kInvalid };
IdText parse_id(string_view text, u32& id);

// Reads lines of a file of at most `file_max` bytes, each of at most kLineMax.
class LineReader {
 public:
  static constexpr size_t kFileMax = 1 << 20;
  static constexpr size_t kLineMax = 64 << 10;
  explicit LineReader(int fd, size_t file_max = kFileMax) : fd_(fd), file_max_(file_max) {}
  // False at the end or on an error; error() tells which: E2BIG for a line or file beyond its bound.
  bool next(string_view& line);
  int error() const { return error_; }

 private:
  int fd_;
  size_t file_max_;
  int error_ = 0;
  bool end_ = false;
  size_t total_ = 0;
  size_t from_ = 0;
  size_t size_ = 0;
  char buffer_[kLineMax];
};

}  // namespace caisson
