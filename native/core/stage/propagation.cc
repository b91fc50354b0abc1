// Whether a mount of the host can propagate (mount_namespaces(7)). mountinfo alone tells: statmount(2) is of Linux 6.8.
#include "core/stage/stage.h"
#include "core/stage/users.h"

namespace caisson {

namespace {

// fs.mount-max is 100000 mounts, of some 200 bytes each; those of an overlay may be longer.
constexpr size_t kMountinfoMax = size_t{256} << 20;

// The next word of a line of proc_pid_mountinfo(5); "" at its end.
string_view take_word(string_view& line) {
  size_t end = line.find(' ');
  string_view word = part(line, 0, end);
  line = end == line.npos ? string_view() : part(line, end + 1);
  return word;
}

bool is_number(string_view word, u64 number) {
  u64 value = 0;
  for (char c : word) {
    if (c < '0' || c > '9' || value > UINT32_MAX) return false;
    value = value * 10 + static_cast<u64>(c - '0');
  }
  return !word.empty() && value == number;
}

// "36 35 98:0 /root /mount/point rw,noatime master:1 shared:2 - ext3 /dev/root rw": between the options and the dash
// stand the peer groups.
bool propagates(string_view fields, u64 type) {
  for (string_view word = take_word(fields); !word.empty() && word != "-"; word = take_word(fields)) {
    if (word.starts_with("shared:")) return true;
    // What a slave receives it passes on to slaves of its own.
    if (type == uapi::kMsSlave && word.starts_with("master:")) return true;
  }
  return false;
}

}  // namespace

void require_propagation(Stage& s, int fd, u64 type) {
  u64 id = 0;
  s.check(sys::mount_id(fd, id));
  int file = s.check(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  LineReader reader(file, kMountinfoMax);
  string_view line;
  while (reader.next(line)) {
    if (!is_number(take_word(line), id)) continue;
    for (int skipped = 0; skipped < 3; ++skipped) take_word(line);  // parent, device, root
    string_view point = take_word(line);
    take_word(line);  // options
    if (!propagates(line, type)) {
      s.found = point;
      s.fail(EINVAL);
    }
    let_go(file);
    return;
  }
  // ENOENT: a mount outside of the root directory that the monitor was started in
  s.fail(reader.error() != 0 ? reader.error() : ENOENT);
}

}  // namespace caisson
