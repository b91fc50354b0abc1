#include "core/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/uapi.h"

namespace caisson {

Result<Fd> sealed_memfd(const char* name, span<const u8> data, MemfdKind kind) {
  if (data.size() > kMemfdMax) return Error(EFBIG, "memfd_create", name);
  constexpr unsigned kMfdNoexecSeal = 0x8;  // both Linux 6.3; EINVAL before
  constexpr unsigned kMfdExec = 0x10;
  unsigned flags = uapi::kMfdCloexec | uapi::kMfdAllowSealing;
  long fd = syscall(SYS_memfd_create, name, flags | (kind == MemfdKind::kExecutable ? kMfdExec : kMfdNoexecSeal));
  if (fd < 0 && errno == EINVAL) fd = syscall(SYS_memfd_create, name, flags);
  // EACCES: sysctl vm.memfd_noexec=2 forbids executable ones
  if (fd < 0) return Error::last("memfd_create", name);
  Fd memfd(static_cast<int>(fd));
  for (size_t done = 0; done < data.size();) {
    ssize_t n = pwrite(memfd.get(), data.data() + done, data.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("pwrite", name);
    done += static_cast<size_t>(n);
  }
  int seals = uapi::kSealSeal | uapi::kSealShrink | uapi::kSealGrow | uapi::kSealWrite;
  if (fcntl(memfd.get(), uapi::kFAddSeals, seals) != 0) return Error::last("fcntl", name);
  return memfd;
}

Result<size_t> sealed_memfd_size(int fd, size_t limit) {
  int seals = fcntl(fd, uapi::kFGetSeals);
  if (seals < 0) return Error::last("fcntl", "memfd");
  constexpr int kNeeded = uapi::kSealShrink | uapi::kSealWrite;
  if ((seals & kNeeded) != kNeeded) return Error(EPERM, "fcntl", "memfd: not sealed");
  struct stat st {};
  if (fstat(fd, &st) != 0) return Error::last("fstat", "memfd");
  if (static_cast<u64>(st.st_size) > limit) return Error(EFBIG, "read", "memfd");
  return static_cast<size_t>(st.st_size);
}

Result<String> read_sealed_text(int fd, size_t limit) {
  const size_t size = CAISSON_TRY(sealed_memfd_size(fd, limit));
  Vec<u8> bytes;
  bytes.reserve(size);
  for (size_t i = 0; i < size; ++i) bytes.push(0);
  CAISSON_TRY(read_memfd(fd, {bytes.data(), bytes.size()}));
  return String(string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Status read_memfd(int fd, span<u8> out) {
  for (size_t done = 0; done < out.size();) {
    ssize_t n = pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("pread", "memfd");
    if (n == 0) return Error(ENODATA, "pread", "memfd");
    done += static_cast<size_t>(n);
  }
  return ok();
}

}  // namespace caisson
