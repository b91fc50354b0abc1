#include "oci/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/deadline.h"
#include "core/path.h"
#include "core/sys.h"
#include "oci/destroy.h"
#include "oci/files.h"
#include "oci/rootless.h"
#include "oci/state.h"

namespace caisson::oci {

namespace {

constexpr u64 kBelow = uapi::kResolveBeneath | uapi::kResolveNoSymlinks | uapi::kResolveNoMagiclinks;

Fault already_exists(string_view id) { return Fault::text_of("container with given ID already exists: \"", id, "\""); }

// mkdir -p, all of it ours alone where it was not there.
Status make_directories(string_view path) {
  const String whole(path);
  if (mkdir(whole.c_str(), 0700) == 0 || errno == EEXIST) return ok();
  const size_t slash = path.rfind('/');
  if (errno != ENOENT || slash == 0 || slash == string_view::npos) return Error::last("mkdir", path);
  CAISSON_TRY(make_directories(part(path, 0, slash)));
  if (mkdir(whole.c_str(), 0700) != 0 && errno != EEXIST) return Error::last("mkdir", path);
  return ok();
}

// $XDG_RUNTIME_DIR is cleaned of what was not used for a while, unless it has the sticky bit (XDG base directories).
Status keep_from_cleaning(int root) {
  struct stat st {};
  if (effective_user() == 0 || fstat(root, &st) != 0 || st.st_uid != effective_user()) return ok();
  if ((st.st_mode & S_ISVTX) == 0 && fchmod(root, (st.st_mode & 07777) | S_ISVTX) != 0) return Error::last("fchmod");
  return ok();
}

bool try_lock(int dir) {
  while (flock(dir, LOCK_EX | LOCK_NB) != 0)
    if (errno != EINTR) return false;
  return true;
}

}  // namespace

bool is_container_id(string_view id) {
  for (const char c : id)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' ||
          c == '-' || c == '.'))
      return false;
  return is_file_name(id);
}

Fault no_such_container(string_view id) { return Fault::text_of("container does not exist: \"", id, "\""); }

Result<bool> Slot::current() const {
  struct stat ours {};
  struct stat there {};
  if (fstat(dir_.get(), &ours) != 0) return Error::last("fstat", id_);
  if (fstatat(root_, id_.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return Error::last("fstatat", id_);
  }
  return ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

Done Slot::lock(int timeout_ms) {
  const Deadline deadline(timeout_ms);
  while (!try_lock(dir_.get())) {
    if (deadline.left_ms() == 0)
      return Fault::text_of("container \"", id_, "\" is busy: another command is changing it");
    usleep(2000);  // flock(2) has no time-out
  }
  if (!OCI_TRY(current())) return no_such_container(id_);
  return done();
}

void Slot::unlock() { flock(dir_.get(), LOCK_UN); }

Result<String> Slot::read(const char* name, size_t max) const {
  Fd file = CAISSON_TRY(open_at2(dir_.get(), name, O_RDONLY | O_NOFOLLOW, 0, kBelow));
  return read_whole(file.get(), max, name);
}

Status Slot::replace(const char* name, string_view text) const {
  String fresh(string_view("."));
  fresh.append(name).append(".new");
  // That of a writer that died is taken over: nobody else writes to this directory.
  return replace_file(dir_.get(), fresh, String(string_view(name)), text, O_TRUNC | O_NOFOLLOW, 0600);
}

Status Slot::add(const char* name, string_view text) const {
  const Fd file(openat(dir_.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return Error::last("open", name);
  return write_whole(file.get(), text, name);
}

bool Slot::has(const char* name) const {
  struct stat st {};
  return fstatat(dir_.get(), name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

Status Slot::remove() const {
  // Most often there is nothing else.
  for (const char* name : {"state.json", "config.json"})
    if (unlinkat(dir_.get(), name, 0) != 0 && errno != ENOENT) return Error::last("unlinkat", name);
  if (unlinkat(root_, id_.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return ok();
  return remove_tree_at(root_, id_.c_str());
}

Result<Store> Store::open(string_view root, bool make) {
  const String path(root);
  Fd dir(openat(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir && errno == ENOENT && make) {
    CAISSON_TRY(make_directories(root));
    dir.reset(openat(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir) CAISSON_TRY(keep_from_cleaning(dir.get()));
  }
  if (!dir) return Error::last("open", root);
  return Store(static_cast<Fd&&>(dir));
}

Outcome<Slot> Store::create(string_view id) {
  if (!is_container_id(id)) return Fault::text_of("invalid container ID format: \"", id, "\"");
  const String name(id);
  for (;;) {
    const bool made = mkdirat(root_.get(), name.c_str(), 0700) == 0;
    if (!made && errno != EEXIST) return Error::last("mkdir", id);
    Result<Fd> dir = open_at2(root_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kBelow);
    if (!dir && dir.error().err == ENOENT) continue;  // it was deleted meanwhile
    if (!dir) return dir.error();
    Slot slot(root_.get(), dir.take(), id);
    // Between our mkdir and here another create may have taken it for the leavings of a dead one: the lock decides.
    if (!try_lock(slot.dir())) return already_exists(id);
    if (!OCI_TRY(slot.current())) continue;
    if (made) return slot;
    if (!OCI_TRY(is_abandoned(slot))) return already_exists(id);
    OCI_TRY(clear_leftovers(slot));
    OCI_TRY(slot.remove());  // and begin anew: nothing of a dead create is reused
  }
}

Outcome<Slot> Store::find(string_view id) {
  if (id.empty()) return Fault::text_of("container id cannot be empty");
  if (!is_container_id(id)) return Fault::text_of("invalid container ID format: \"", id, "\"");
  Result<Fd> dir = open_at2(root_.get(), String(id).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, kBelow);
  if (!dir && (dir.error().err == ENOENT || dir.error().err == ENOTDIR)) return no_such_container(id);
  if (!dir) return dir.error();
  return Slot(root_.get(), dir.take(), id);
}

}  // namespace caisson::oci
