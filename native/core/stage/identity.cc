// Who the process is going to be: user and group names are looked up in the assembled root.
#include <sys/sysmacros.h>

#include "core/stage/stage.h"
#include "core/stage/users.h"

namespace caisson {

namespace {

// What describe_failure() shows: which part of the user text, or which file.
enum : u32 { kUserPart = 0, kGroupPart = 1, kPasswdFile = 2, kGroupFile = 3 };

int open_table(Stage& s, const char* path) {
  // O_NONBLOCK: a FIFO in the place of the file must not hang the start.
  int fd = sys::openat2(s.root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                        uapi::kResolveInRoot | uapi::kResolveNoMagiclinks);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return -1;
    s.fail(errno);
  }
  struct stat st = {};
  s.check(fstat(fd, &st));
  // A table that is masked, or a link of the image to /dev/null, has no lines.
  if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) return -1;
  if (!S_ISREG(st.st_mode)) s.fail(EINVAL);
  return fd;
}

template <typename Visit>
void each_line(Stage& s, const char* path, u32 file, Visit visit) {
  s.at(Step::kResolveUser, file);
  int fd = open_table(s, path);
  if (fd < 0) return;
  LineReader reader(fd);
  string_view line;
  while (reader.next(line)) {
    if (!visit(line)) break;
  }
  if (reader.error() != 0) s.fail(reader.error());
  let_go(fd);
}

void add_group(Stage& s, u32 gid) {
  Identity& who = s.identity;
  for (u32 i = 0; i < who.group_count; ++i) {
    if (who.groups[i] == gid) return;
  }
  if (who.group_count == GateReport::kGroupsMax) s.fail(E2BIG);
  who.groups[who.group_count++] = gid;
}

struct Account {
  bool found = false;
  u32 gid = 0;
  char name[256] = {};
  size_t name_size = 0;
};

bool wants_home(Stage& s) {
  if ((s.plan->process().flags & kProcessSetHome) == 0) return false;
  for (Str each : s.plan->env()) {
    if (s.plan->text(each).starts_with("HOME=")) return false;
  }
  return true;
}

void set_home(Stage& s, string_view home) {
  if (!wants_home(s)) return;
  if (home.empty()) home = "/";
  if (home.size() + 6 > sizeof s.home) s.fail(ENAMETOOLONG);
  memcpy(s.home, "HOME=", 5);
  memcpy(s.home + 5, home.data(), home.size());
  s.home[5 + home.size()] = '\0';
  s.envp[s.env_count] = s.home;
}

Account find_account(Stage& s, string_view user, IdText form) {
  Account account;
  bool done = false;
  each_line(s, "/etc/passwd", kPasswdFile, [&](string_view line) {
    PasswdEntry entry;
    if (!parse_passwd(line, entry)) return true;
    if (form == IdText::kName ? entry.name != user : entry.uid != s.identity.uid) return true;
    s.identity.uid = entry.uid;
    account.gid = entry.gid;
    account.found = true;
    account.name_size = entry.name.size() < sizeof account.name ? entry.name.size() : 0;
    memcpy(account.name, entry.name.data(), account.name_size);
    set_home(s, entry.home);
    done = true;
    return false;
  });
  if (!done) set_home(s, {});
  return account;
}

}  // namespace

void resolve_identity(Stage& s) {
  const ProcessEntry& process = s.plan->process();
  Identity& who = s.identity;
  who.uid = process.uid;
  who.gid = process.gid;
  s.at(Step::kResolveUser, kUserPart);
  if ((process.flags & kProcessLookupUser) == 0) {
    for (u32 gid : s.plan->groups()) add_group(s, gid);
    if (wants_home(s)) find_account(s, {}, IdText::kNumber);
    return;
  }
  string_view text = s.plan->text(process.user);
  size_t colon = text.find(':');
  string_view user = part(text, 0, colon);
  who.uid = 0;
  IdText form = user.empty() ? IdText::kNumber : parse_id(user, who.uid);
  if (form == IdText::kInvalid) s.fail(ERANGE);
  Account account = find_account(s, user, form);
  s.at(Step::kResolveUser, kUserPart);
  if (form == IdText::kName && !account.found) s.fail(ENOENT);

  who.gid = account.gid;
  if (colon != text.npos) {
    string_view group = part(text, colon + 1);
    s.at(Step::kResolveUser, kGroupPart);
    IdText group_form = parse_id(group, who.gid);
    if (group_form == IdText::kInvalid) s.fail(group.empty() ? EINVAL : ERANGE);
    bool found = group_form == IdText::kNumber;
    if (!found) {
      each_line(s, "/etc/group", kGroupFile, [&](string_view line) {
        GroupEntry entry;
        if (!parse_group(line, entry) || entry.name != group) return true;
        who.gid = entry.gid;
        found = true;
        return false;
      });
    }
    s.at(Step::kResolveUser, kGroupPart);
    if (!found) s.fail(ENOENT);
  }
  if ((process.flags & kProcessGid) != 0) who.gid = process.gid;

  // The primary group is also listed: a process that drops it must not escape a negative group permission
  // (CVE-2022-2989, CVE-2023-25173).
  add_group(s, who.gid);
  for (u32 gid : s.plan->groups()) add_group(s, gid);
  if ((process.flags & kProcessGroupsStrict) != 0 || account.name_size == 0) return;
  string_view name(account.name, account.name_size);
  each_line(s, "/etc/group", kGroupFile, [&](string_view line) {
    GroupEntry entry;
    if (parse_group(line, entry) && has_member(entry, name)) add_group(s, entry.gid);
    return true;
  });
}

}  // namespace caisson
