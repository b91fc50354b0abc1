// Sealed memfds: plans, payloads of the control protocol, and the program that monitors are started from.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

inline constexpr size_t kMemfdMax = size_t{256} << 20;

enum class MemfdKind {
  kData,        // MFD_NOEXEC_SEAL: mode 0666, never executable (Linux 6.3; before, plain)
  kExecutable,  // MFD_EXEC (Linux 6.3; before, every memfd is executable)
};

// A memfd with the data, sealed against writing, growing, shrinking and further seals: whoever holds it, even
// read-write, cannot change what was checked. CVE-2019-5736 is why a program of ours is started from one: no container
// ever sees a file of the host's behind /proc/<pid>/exe. Its offset is 0.
Result<Fd> sealed_memfd(const char* name, span<const u8> data, MemfdKind kind);

// The size of a memfd that somebody sent. EPERM unless it is sealed against writing and shrinking (else its content or
// size could change, or SIGBUS follow, while it is read); EFBIG when over `limit` bytes.
Result<size_t> sealed_memfd_size(int fd, size_t limit);

// All of it, checked as by sealed_memfd_size.
Result<String> read_sealed_text(int fd, size_t limit);

// Reads exactly out.size() bytes from the start.
Status read_memfd(int fd, span<u8> out);

}  // namespace caisson
