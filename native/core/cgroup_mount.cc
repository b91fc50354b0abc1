#include <fcntl.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/path.h"
#include "core/uapi.h"

namespace caisson {
namespace {

// The n-th field (from 0) of a line separated by single blanks.
string_view field(string_view line, int n) {
  for (; n > 0; --n) {
    size_t blank = line.find(' ');
    if (blank == line.npos) return {};
    line.remove_prefix(blank + 1);
  }
  return part(line, 0, line.find(' '));
}

// mountinfo writes blank, tab, newline and backslash as three octal digits (proc(5)).
String unescape(string_view text) {
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

struct Search {
  CgroupMount found;
  bool v1 = false;

  void line(string_view text) {
    size_t dash = text.find(" - ");
    if (dash == text.npos) return;
    string_view type = field(part(text, dash + 3), 0);
    if (type == "cgroup") v1 = true;
    if (type != "cgroup2" || found.dir || field(text, 3) != "/") return;
    String path = unescape(field(text, 4));
    Fd dir(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct statfs fs {};
    // Another mount may lie over this one.
    if (!dir || fstatfs(dir.get(), &fs) != 0 || static_cast<u64>(fs.f_type) != uapi::kCgroup2SuperMagic) return;
    found.dir = static_cast<Fd&&>(dir);
    found.path = static_cast<String&&>(path);
  }
};

}  // namespace

Result<CgroupMount> find_cgroup_mount() {
  static constexpr const char* kMountinfo = "/proc/self/mountinfo";
  Fd file(open(kMountinfo, O_RDONLY | O_CLOEXEC));
  if (!file) return Error::last("open", kMountinfo);
  // A line holds two paths, each escaped up to four times its length, and options: 64 KiB; the file itself can be long.
  constexpr size_t kLineMax = 64 * 1024;
  struct Buffer {
    char* p = static_cast<char*>(malloc(kLineMax));
    ~Buffer() { free(p); }
  } buffer;
  if (buffer.p == nullptr) return Error(ENOMEM, "malloc", kMountinfo);
  Search search;
  size_t filled = 0;
  for (;;) {
    ssize_t n = read(file.get(), buffer.p + filled, kLineMax - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("read", kMountinfo);
    filled += static_cast<size_t>(n);
    size_t start = 0;
    for (string_view text(buffer.p, filled);;) {
      size_t end = text.find('\n', start);
      if (end == text.npos) break;
      search.line(part(text, start, end - start));
      start = end + 1;
    }
    if (n == 0) break;
    if (start == 0 && filled == kLineMax) return Error(EFBIG, "read", "/proc/self/mountinfo: a line over 64 KiB");
    filled -= start;
    memmove(buffer.p, buffer.p + start, filled);
  }
  if (!search.found.dir) return Error(ENODEV, "mountinfo", "cgroup2: no mount of cgroup v2 in /proc/self/mountinfo");
  search.found.hybrid = search.v1;
  return static_cast<CgroupMount&&>(search.found);
}

}  // namespace caisson
