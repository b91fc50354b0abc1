#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/fd.h"
#include "test/witness/witness.h"

namespace caisson::witness {
namespace {

// "character device 0666 0:0 1:3", "link -> target"
String describe(const char* path) {
  struct stat status = {};
  String text;
  if (lstat(path, &status) != 0) {
    append_errno(text, errno);
    return text;
  }
  if (S_ISLNK(status.st_mode)) {
    char target[4096];
    ssize_t length = readlink(path, target, sizeof target);
    text.append("link -> ").append(string_view(target, length < 0 ? 0 : static_cast<size_t>(length)));
    return text;
  }
  text.append(S_ISDIR(status.st_mode)    ? "directory"
              : S_ISREG(status.st_mode)  ? "file"
              : S_ISCHR(status.st_mode)  ? "character device"
              : S_ISBLK(status.st_mode)  ? "block device"
              : S_ISFIFO(status.st_mode) ? "fifo"
                                         : "socket");
  char mode[8];
  snprintf(mode, sizeof mode, " %04o ", status.st_mode & 07777);
  text.append(mode).append_u64(status.st_uid).append(':').append_u64(status.st_gid);
  if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
    text.append(' ').append_u64(major(status.st_rdev)).append(':').append_u64(minor(status.st_rdev));
  return text;
}

void append_outcome(String& text, const char* what, bool good) {
  text.append(", ").append(what).append(' ');
  if (good)
    text.append("ok");
  else
    append_errno(text, errno);
}

void look_into(String& text, const char* path) {
  DIR* directory = opendir(path);
  append_outcome(text, "list", directory != nullptr);
  if (directory != nullptr) {
    size_t entries = 0;
    while (readdir(directory) != nullptr) ++entries;
    closedir(directory);
    text.append(entries > 2 ? ", filled" : ", empty");
  }
  String name(path);
  name.append("/.witness");
  bool made = mkdir(name.c_str(), 0700) == 0;
  append_outcome(text, "make", made);
  if (made) rmdir(name.c_str());
}

void look_at_file(String& text, const char* path) {
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  Fd reading(open(path, O_RDONLY | kFlags));
  append_outcome(text, "open", bool(reading));
  if (reading) {
    char byte = 0;
    ssize_t got = read(reading.get(), &byte, 1);
    if (got < 0)
      append_outcome(text, "read", false);
    else
      text.append(got == 0 ? ", empty" : ", filled");
  }
  append_outcome(text, "write", bool(Fd(open(path, O_WRONLY | kFlags))));
  append_outcome(text, "execute", access(path, X_OK) == 0);
}

string_view field(string_view line, int index) {
  for (; index > 0; --index) {
    size_t end = line.find(' ');
    if (end == string_view::npos) return {};
    line = part(line, end + 1);
  }
  return part(line, 0, line.find(' '));
}

// mountinfo(5): a value "root type options propagation superblock source" by mount point; "#2" when one is over
// another.
void write_mounts(JsonWriter& json) {
  String text = read_file("/proc/self/mountinfo");
  Vec<string_view> points;
  json.key("mounts").begin_object();
  each_line(text, [&](string_view line) {
    size_t dash = line.find(" - ");
    if (dash == string_view::npos) return;
    string_view left = part(line, 0, dash), right = part(line, dash + 3), point = field(left, 4);
    String value(field(right, 0));
    value.append(" | ").append(field(left, 5)).append(" | ");
    const char* before = "";
    for (int i = 6; !field(left, i).empty(); ++i) {
      string_view tag = field(left, i);
      value.append(before).append(part(tag, 0, tag.find(':')));
      before = ",";
    }
    value.append(" | ")
        .append(field(right, 2))
        .append(" | ")
        .append(field(right, 1))
        .append(" | ")
        .append(field(left, 3));
    String name(point);
    u64 above = 1;
    for (string_view other : points)
      if (other == point) ++above;
    if (above > 1) name.append('#').append_u64(above);
    points.push(point);
    json.member(name, value);
  });
  json.end_object();
}

void write_devices(JsonWriter& json) {
  json.key("devices").begin_object();
  DIR* directory = opendir("/dev");
  while (directory != nullptr) {
    const struct dirent* entry = readdir(directory);
    if (entry == nullptr) break;
    string_view name(entry->d_name);
    if (name == "." || name == "..") continue;
    String path("/dev/");
    path.append(name);
    json.member(name, describe(path.c_str()));
  }
  if (directory != nullptr) closedir(directory);
  json.end_object();
}

}  // namespace

String look(const char* path) {
  String text = describe(path);
  struct stat status = {};
  if (stat(path, &status) != 0) return text;
  if (S_ISDIR(status.st_mode))
    look_into(text, path);
  else
    look_at_file(text, path);
  return text;
}

void write_files(JsonWriter& json) {
  write_mounts(json);
  write_devices(json);
  json.key("files").begin_object();
  for (const char* path :
       {"/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc", "/etc/passwd", "/proc", "/sys", "/tmp"})
    json.member(path, describe(path));
  json.end_object();
}

}  // namespace caisson::witness
