// Changes of a mount and of its file system: option words to fsconfig(2), what only mount(2) takes, propagation, and
// the option remount.
#include <sys/vfs.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

// A context of fsopen(2) and fspick(2) is read for what the file system says of a failure: "e tmpfs: Bad value for
// 'x'".
[[noreturn]] void fail_with_words(Stage& s, int context) {
  const int err = errno;
  char text[256];
  ssize_t n = read(context, text, sizeof text);
  while (n > 2 && text[n - 1] == '\n') --n;
  if (n > 2 && text[0] == 'e') s.found = string_view(text + 2, static_cast<size_t>(n) - 2);
  s.fail(err);
}

struct SuperblockWord {
  u64 flag;
  const char* set;
  const char* clear;
};
constexpr SuperblockWord kSuperblockWords[] = {
    {uapi::kMsSynchronous, "sync", "async"},
    {uapi::kMsDirsync, "dirsync", nullptr},
    {uapi::kMsMandlock, "mand", "nomand"},
    {uapi::kMsLazytime, "lazytime", "nolazytime"},
};

// "key=value,flag" to fsconfig(2), whose strings end at 256 bytes.
void configure(Stage& s, int fs, string_view data) {
  char option[512];
  while (!data.empty()) {
    size_t end = data.find(',');
    string_view option_text = part(data, 0, end);
    data = end == data.npos ? string_view() : part(data, end + 1);
    if (option_text.empty()) continue;
    s.found = option_text;
    if (option_text.size() >= sizeof option) s.fail(ENAMETOOLONG);
    memcpy(option, option_text.data(), option_text.size());
    option[option_text.size()] = '\0';
    size_t equals = option_text.find('=');
    if (equals == option_text.npos) {
      check_context(s, fs, sys::fsconfig_flag(fs, option));
    } else {
      option[equals] = '\0';
      check_context(s, fs, sys::fsconfig_string(fs, option, option + equals + 1));
    }
  }
  s.found = {};
}

// What mount(2) is to leave as it is: a remount gives a mount all the flags of the call and no others.
u64 flags_of(u64 shown) {
  struct Flag {
    u64 shown;  // f_flags of statfs(2)
    u64 flag;
  };
  constexpr Flag kFlags[] = {
      {0x0001, uapi::kMsRdonly},      {0x0002, uapi::kMsNosuid},      {0x0004, uapi::kMsNodev},
      {0x0008, uapi::kMsNoexec},      {0x0010, uapi::kMsSynchronous}, {0x0040, uapi::kMsMandlock},
      {0x0400, uapi::kMsNoatime},     {0x0800, uapi::kMsNodiratime},  {0x1000, uapi::kMsRelatime},
      {0x2000, uapi::kMsNosymfollow},
  };
  u64 flags = 0;
  for (const Flag& each : kFlags) {
    if ((shown & each.shown) != 0) flags |= each.flag;
  }
  // Not shown, as it is the absence of the other two.
  if ((flags & (uapi::kMsNoatime | uapi::kMsRelatime)) == 0) flags |= uapi::kMsStrictatime;
  return flags;
}

}  // namespace

int check_context(Stage& s, int context, int result) {
  if (result < 0) fail_with_words(s, context);
  return result;
}

void configure_superblock(Stage& s, int fs, const MountEntry& mount) {
  for (const SuperblockWord& each : kSuperblockWords) {
    const char* word = nullptr;
    if ((mount.superblock & each.flag) != 0) word = each.set;
    if ((mount.superblock_clr & each.flag) != 0) word = each.clear;
    if (word == nullptr) continue;
    s.found = word;
    check_context(s, fs, sys::fsconfig_flag(fs, word));
  }
  configure(s, fs, s.plan->text(mount.data));
}

// i_version has no word in fsconfig(2). By the working directory, so that no path is walked.
void change_iversion(Stage& s, int fd, const MountEntry& mount) {
  const bool on = (mount.flags & kMountIversion) != 0;
  s.found = on ? "iversion" : "noiversion";
  s.check(fchdir(fd));
  struct statfs fs = {};
  s.check(fstatfs(fd, &fs));
  u64 flags = flags_of(static_cast<u64>(fs.f_flags)) | (mount.superblock & uapi::kMsLazytime);
  s.check(sys::mount(nullptr, ".", nullptr, uapi::kMsRemount | flags | (on ? uapi::kMsIversion : 0), nullptr));
  s.check(chdir("/"));
  s.found = {};
}

void set_propagation(Stage& s, int fd, const MountEntry& mount) {
  const u64 type = mount.propagation & ~uapi::kMsRec;
  if (type == 0) return;
  const int flags = uapi::kAtEmptyPath | ((mount.propagation & uapi::kMsRec) != 0 ? uapi::kAtRecursive : 0);
  if ((mount.flags & kMountSharedSlave) != 0) s.check(sys::mount_setattr(fd, "", flags, {0, 0, uapi::kMsSlave, 0}));
  s.check(sys::mount_setattr(fd, "", flags, {0, 0, type, 0}));
}

void remount(Stage& s, u32 index) {
  const MountEntry& mount = s.plan->mounts()[index];
  s.at(Step::kMountTarget, index);
  const char* path = s.plan->c_str(mount.destination);
  int fd = s.check(sys::openat2(s.root, path, O_PATH, 0, uapi::kResolveInRoot | uapi::kResolveNoMagiclinks));
  s.at(Step::kMountAttributes, index);
  s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath, {mount.attr_set, mount.attr_clr, 0, 0}));
  if ((mount.recursive_set | mount.recursive_clr) != 0)
    s.check(sys::mount_setattr(fd, "", uapi::kAtEmptyPath | uapi::kAtRecursive,
                               {mount.recursive_set, mount.recursive_clr, 0, 0}));
  set_propagation(s, fd, mount);
  const u64 words = mount.superblock | (mount.superblock_clr & ~uapi::kMsIversion);
  if (words != 0 || mount.data.length != 0) {
    int fs = s.check(sys::fspick(fd, ""));
    configure_superblock(s, fs, mount);
    check_context(s, fs, sys::fsconfig_reconfigure(fs));
    close(fs);
  }
  if ((mount.flags & kMountIversion) != 0 || (mount.superblock_clr & uapi::kMsIversion) != 0)
    change_iversion(s, fd, mount);
  close(fd);
}

}  // namespace caisson
