#include "core/self_exe.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "core/fd.h"
#include "core/memfd.h"
#include "core/sys.h"

namespace caisson {

namespace {

constexpr char kSelf[] = "/proc/self/exe";

constexpr u64 kStRdonly = 1;             // statfs(2)
constexpr u64 kTmpfsMagic = 0x01021994;  // of memfds, too

bool is_protected() {
  struct statfs fs = {};
  if (statfs(kSelf, &fs) != 0) return false;
  if ((static_cast<u64>(fs.f_flags) & kStRdonly) != 0) return true;
  if (static_cast<u64>(fs.f_type) != kTmpfsMagic) return false;
  const Fd exe(open(kSelf, O_RDONLY | O_CLOEXEC));
  const int seals = exe ? fcntl(exe.get(), uapi::kFGetSeals) : -1;
  return seals >= 0 && (seals & uapi::kSealWrite) != 0;
}

Result<Fd> read_only_clone() {
  Fd clone(sys::open_tree(AT_FDCWD, kSelf, uapi::kOpenTreeClone));
  if (!clone) return Error::last("open_tree", kSelf);
  if (sys::mount_setattr(clone.get(), "", uapi::kAtEmptyPath, {uapi::kMountAttrRdonly, 0, uapi::kMsPrivate, 0}) != 0)
    return Error::last("mount_setattr", kSelf);
  return clone;
}

Result<Fd> sealed_copy() {
  const Fd exe(open(kSelf, O_RDONLY | O_CLOEXEC));
  if (!exe) return Error::last("open", kSelf);
  struct stat st = {};
  if (fstat(exe.get(), &st) != 0) return Error::last("fstat", kSelf);
  const auto size = static_cast<size_t>(st.st_size);
  void* bytes = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, exe.get(), 0);
  if (bytes == MAP_FAILED) return Error::last("mmap", kSelf);
  Result<Fd> copy = sealed_memfd("caisson-oci", {static_cast<const u8*>(bytes), size}, MemfdKind::kExecutable);
  munmap(bytes, size);
  return copy;
}

}  // namespace

Status protect_executable(char* const* argv, char* const* envp) {
  if (is_protected()) return ok();
  Result<Fd> fresh = read_only_clone();
  const bool copy = !fresh && (fresh.error().err == EPERM || fresh.error().err == EINVAL);
  Fd file = copy ? CAISSON_TRY(sealed_copy()) : CAISSON_TRY(static_cast<Result<Fd>&&>(fresh));
  syscall(SYS_execveat, file.get(), "", argv, envp, uapi::kAtEmptyPath);
  return Error::last("execveat", kSelf);
}

}  // namespace caisson
