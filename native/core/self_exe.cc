#include "core/self_exe.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "core/fd.h"
#include "core/memfd.h"
#include "core/sys.h"

namespace caisson {

namespace {

constexpr char kSelf[] = "/proc/self/exe";

bool is_protected(int exe) {
  struct statvfs fs = {};
  if (fstatvfs(exe, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0) return true;
  const int seals = fcntl(exe, uapi::kFGetSeals);
  return seals >= 0 && (seals & uapi::kSealWrite) != 0;
}

Result<Fd> read_only_clone() {
  Fd clone(sys::open_tree(AT_FDCWD, kSelf, uapi::kOpenTreeClone));
  if (!clone) return Error::last("open_tree", kSelf);
  if (sys::mount_setattr(clone.get(), "", uapi::kAtEmptyPath, {uapi::kMountAttrRdonly, 0, uapi::kMsPrivate, 0}) != 0)
    return Error::last("mount_setattr", kSelf);
  return clone;
}

Result<Fd> sealed_copy(int exe) {
  struct stat st = {};
  if (fstat(exe, &st) != 0) return Error::last("fstat", kSelf);
  const auto size = static_cast<size_t>(st.st_size);
  void* bytes = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, exe, 0);
  if (bytes == MAP_FAILED) return Error::last("mmap", kSelf);
  Result<Fd> copy = sealed_memfd("caisson-oci", {static_cast<const u8*>(bytes), size}, MemfdKind::kExecutable);
  munmap(bytes, size);
  return copy;
}

}  // namespace

Status protect_executable(char* const* argv, char* const* envp) {
  Fd exe(open(kSelf, O_RDONLY | O_CLOEXEC));
  if (!exe) return Error::last("open", kSelf);
  if (is_protected(exe.get())) return ok();
  Result<Fd> fresh = read_only_clone();
  const bool copy = !fresh && (fresh.error().err == EPERM || fresh.error().err == EINVAL);
  Fd file = copy ? CAISSON_TRY(sealed_copy(exe.get())) : CAISSON_TRY(static_cast<Result<Fd>&&>(fresh));
  exe.reset();
  syscall(SYS_execveat, file.get(), "", argv, envp, uapi::kAtEmptyPath);
  return Error::last("execveat", kSelf);
}

}  // namespace caisson
