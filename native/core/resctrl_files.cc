#include "core/resctrl_files.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/path.h"
#include "core/uapi.h"

namespace caisson {
namespace {

constexpr u64 kResolve = uapi::kResolveBeneath | uapi::kResolveNoSymlinks;

}  // namespace

Result<string_view> rdt_read(int root, string_view path, span<char> out) {
  const String name(path);
  Fd file = CAISSON_TRY(open_at2(root, name.c_str(), O_RDONLY, 0, kResolve));
  string_view text = CAISSON_TRY(read_small(file.get(), out, path));
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

Status rdt_write(int root, string_view path, string_view value) {
  const String name(path);
  Fd file = CAISSON_TRY(open_at2(root, name.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600, kResolve));
  for (;;) {
    const ssize_t n = write(file.get(), value.data(), value.size());
    if (n == static_cast<ssize_t>(value.size())) return ok();
    if (n >= 0) return Error(EIO, "write", path);
    if (errno != EINTR) return Error::last("write", path);
  }
}

}  // namespace caisson
