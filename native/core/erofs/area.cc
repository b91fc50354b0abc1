#include "core/erofs/area.h"

#include <errno.h>
#include <unistd.h>

namespace caisson::erofs {

Status Area::write(u64 at, span<const u8> data) {
  const u64 end = start_ + buffer_.size();
  if (at < end || at - end > kGapMax || at - start_ + data.size() > kBuffer) {
    CAISSON_TRY(flush());
    start_ = at;
  }
  const string_view bytes(reinterpret_cast<const char*>(data.data()), data.size());
  if (data.size() > kBuffer) return put(at, bytes);
  static constexpr char kZeros[kGapMax] = {};
  buffer_.append({kZeros, at - start_ - buffer_.size()}).append(bytes);
  return ok();
}

Status Area::flush() {
  CAISSON_TRY(put(start_, buffer_));
  start_ += buffer_.size();
  buffer_.clear();
  return ok();
}

Status Area::put(u64 at, string_view data) const {
  while (!data.empty()) {
    const ssize_t n = pwrite(fd_, data.data(), data.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("pwrite", "layer.erofs");
    at += static_cast<u64>(n);
    data.remove_prefix(static_cast<size_t>(n));
  }
  return ok();
}

}  // namespace caisson::erofs
