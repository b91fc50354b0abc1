// The executable: execvp(3) semantics with the container's own PATH.
#include "core/stage/stage.h"

namespace caisson {

namespace {

constexpr string_view kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

string_view search_path(const Stage& s) {
  for (Str each : s.plan->env()) {
    string_view text = s.plan->text(each);
    if (text.starts_with("PATH=")) return part(text, 5);
  }
  return kDefaultPath;
}

// Calls visit(candidate) until it returns true. ENAMETOOLONG candidates are passed over, as execvp does.
template <typename Visit>
void each_candidate(const Stage& s, Visit visit) {
  string_view name = s.plan->text(s.plan->args()[0]);
  if (name.find('/') != name.npos) {
    visit(s.argv[0]);
    return;
  }
  char candidate[kPlanPathMax + 1];
  string_view path = search_path(s);
  for (;;) {
    size_t end = path.find(':');
    string_view directory = part(path, 0, end);
    if (directory.size() + name.size() + 2 <= sizeof candidate) {
      size_t used = directory.size();
      memcpy(candidate, directory.data(), used);
      if (used != 0) candidate[used++] = '/';  // an empty element is the working directory
      memcpy(candidate + used, name.data(), name.size());
      candidate[used + name.size()] = '\0';
      if (visit(candidate)) return;
    }
    if (end == path.npos) return;
    path.remove_prefix(end + 1);
  }
}

}  // namespace

void look_up_executable(Stage& s) {
  s.at(Step::kLookupExecutable);
  if (s.plan->args()[0].length == 0) s.fail(ENOENT);
  int err = ENOENT;
  each_candidate(s, [&](const char* path) {
    struct stat st = {};
    if (fstatat(AT_FDCWD, path, &st, 0) != 0) {
      // Root may be refused where the user is not (NFS with root_squash): exec itself will tell.
      if (errno == EACCES) err = 0;
      if (errno == ENOTDIR && path == s.argv[0]) err = ENOTDIR;
      return errno == EACCES;
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0) {
      err = EACCES;
      return false;
    }
    err = 0;
    return true;
  });
  if (err != 0) s.fail(err);
}

void execute(Stage& s) {
  s.at(Step::kExec);
  int err = ENOENT;
  each_candidate(s, [&](const char* path) {
    execve(path, s.argv, s.envp);
    if (errno == EACCES) {
      err = EACCES;
      return false;
    }
    if (errno == ENOENT || errno == ENOTDIR) return false;
    err = errno;
    return true;
  });
  s.fail(err);
}

}  // namespace caisson
