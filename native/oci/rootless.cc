#include "oci/rootless.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/sys.h"

namespace caisson::oci {

namespace {

bool read_user_namespace() {
  constexpr u64 kInitialUserNamespace = 0xEFFFFFFD;  // PROC_USER_INIT_INO, the same since Linux 3.8
  struct stat st {};
  if (stat("/proc/self/ns/user", &st) == 0 && st.st_ino == kInitialUserNamespace) return false;
  Fd file(openat(AT_FDCWD, "/proc/self/uid_map", O_RDONLY | O_CLOEXEC));
  char text[128];
  const ssize_t n = file ? read(file.get(), text, sizeof text) : -1;
  if (n <= 0) return false;  // a kernel without user namespaces
  // The first one maps everything onto itself: "0 0 4294967295", user_namespaces(7).
  u64 fields[3] = {1, 1, 0};
  size_t at = 0;
  for (u64& field : fields) {
    while (at < static_cast<size_t>(n) && text[at] == ' ') ++at;
    for (field = 0; at < static_cast<size_t>(n) && text[at] >= '0' && text[at] <= '9'; ++at)
      field = field * 10 + static_cast<u64>(text[at] - '0');
  }
  return fields[0] != 0 || fields[1] != 0 || fields[2] != 0xffffffff;
}

}  // namespace

bool in_user_namespace() {
  static const bool inside = read_user_namespace();  // a command stays in the one that it was started in
  return inside;
}

u32 effective_user() { return static_cast<u32>(getauxval(AT_EUID)); }

bool is_rootless(const Globals& globals) {
  if (globals.rootless != Rootless::kAuto) return globals.rootless == Rootless::kTrue;
  return effective_user() != 0 || in_user_namespace();
}

String default_root() {
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  String root(string_view("/run/caisson-oci"));
  if (runtime == nullptr || runtime[0] != '/') return root;
  if (effective_user() == 0) {
    // Real root keeps /run, whatever a login session has set; USER is root there and not in a user's namespace.
    const char* user = getenv("USER");
    if (!in_user_namespace() || (user != nullptr && string_view(user) == "root")) return root;
  }
  root.clear();
  root.append(runtime).append("/caisson-oci");
  return root;
}

Outcome<String> absolute_path(string_view path) {
  if (path.find('\0') != string_view::npos || path.size() >= PATH_MAX) return Error(ENAMETOOLONG, "open", path);
  String whole;
  if (!path.starts_with('/')) {
    char here[PATH_MAX];
    if (sys::getcwd(here, sizeof here) < 0) return Error::last("getcwd");
    if (here[0] != '/') return Error(ENOENT, "getcwd", here);  // outside the root: "(unreachable)/..."
    whole.append(here).append('/');
  }
  whole.append(path);
  Vec<string_view> parts;
  for (string_view rest = whole; !rest.empty();) {
    const size_t slash = rest.find('/');
    const string_view name = part(rest, 0, slash);
    if (name == "..") {
      if (!parts.empty()) parts.pop();
    } else if (!name.empty() && name != ".") {
      parts.push(name);
    }
    rest = slash == string_view::npos ? string_view() : part(rest, slash + 1);
  }
  String clean;
  for (const string_view name : parts) clean.append('/').append(name);
  if (clean.empty()) clean.append('/');
  return clean;
}

}  // namespace caisson::oci
