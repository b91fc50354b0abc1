#include "core/mountinfo.h"

#include <fcntl.h>
#include <unistd.h>

namespace caisson {
namespace {

constexpr const char* kMountinfo = "/proc/self/mountinfo";
constexpr size_t kLineMax = 64 * 1024;

// The n-th field (from 0) of a line separated by single blanks.
string_view field(string_view line, int n) {
  for (; n > 0; --n) {
    const size_t blank = line.find(' ');
    if (blank == line.npos) return {};
    line.remove_prefix(blank + 1);
  }
  return part(line, 0, line.find(' '));
}

}  // namespace

Result<MountinfoReader> MountinfoReader::open() {
  Fd file(::open(kMountinfo, O_RDONLY | O_CLOEXEC));
  if (!file) return Error::last("open", kMountinfo);
  return MountinfoReader(static_cast<Fd&&>(file));
}

Result<MountLine> MountinfoReader::next() {
  if (buffer_.empty())
    for (size_t i = 0; i < kLineMax; ++i) buffer_.push('\0');
  for (;;) {
    const string_view text(buffer_.data() + at_, filled_ - at_);
    const size_t end = text.find('\n');
    if (end != text.npos) {
      at_ += end + 1;
      const string_view line = part(text, 0, end);
      const size_t dash = line.find(" - ");
      if (dash == line.npos) continue;
      return MountLine{field(line, 3), field(line, 4), field(part(line, dash + 3), 0)};
    }
    memmove(buffer_.data(), buffer_.data() + at_, filled_ - at_);
    filled_ -= at_;
    at_ = 0;
    if (filled_ == kLineMax) return Error(EFBIG, "read", "/proc/self/mountinfo: a line over 64 KiB");
    const ssize_t n = read(file_.get(), buffer_.data() + filled_, kLineMax - filled_);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("read", kMountinfo);
    if (n == 0) return MountLine();
    filled_ += static_cast<size_t>(n);
  }
}

String unescape_mount(string_view text) {
  auto octal = [](char c) { return c >= '0' && c <= '7'; };
  String out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
      out.append(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
      i += 3;
    } else {
      out.append(text[i]);
    }
  }
  return out;
}

}  // namespace caisson
