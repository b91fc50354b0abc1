#include "addon/layer_sink.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

namespace caisson {

namespace {

constexpr size_t kBlock = 512 * 1024;
constexpr u32 kLevel = 3;

}  // namespace

LayerSink::LayerSink(int out, bool gzip, const std::atomic<bool>& cancelled)
    : out_(out), gzip_(gzip), cancelled_(cancelled), block_(kBlock) {
  if (!gzip_) return;
  compressed_.resize(kBlock);
  level_buffer_.resize(ISAL_DEF_LVL3_DEFAULT);
  isal_deflate_init(&stream_);
  stream_.gzip_flag = IGZIP_GZIP;
  stream_.level = kLevel;
  stream_.level_buf = level_buffer_.data();
  stream_.level_buf_size = static_cast<u32>(level_buffer_.size());
}

Status LayerSink::write(span<const u8> data) {
  while (!data.empty()) {
    const size_t room = block_.size() - filled_;
    const size_t n = data.size() < room ? data.size() : room;
    memcpy(block_.data() + filled_, data.data(), n);
    filled_ += n;
    data = data.subspan(n);
    if (filled_ == block_.size()) CAISSON_TRY(flush());
  }
  return ok();
}

Status LayerSink::flush() {
  if (cancelled_) return Error(ECANCELED, "write", "layer");
  const span<const u8> block(block_.data(), filled_);
  if (!diff_id_.update(block)) return Error(ENOTSUP, "EVP_DigestUpdate", "SHA-256");
  result_.expanded += filled_;
  if (gzip_)
    CAISSON_TRY(deflate(false));
  else
    CAISSON_TRY(put(block));
  filled_ = 0;
  return ok();
}

Status LayerSink::deflate(bool last) {
  stream_.next_in = block_.data();
  stream_.avail_in = static_cast<u32>(filled_);
  stream_.end_of_stream = last ? 1 : 0;
  do {
    stream_.next_out = compressed_.data();
    stream_.avail_out = static_cast<u32>(compressed_.size());
    if (isal_deflate(&stream_) != COMP_OK) return Error(EINVAL, "compress", "gzip");
    CAISSON_TRY(put({compressed_.data(), compressed_.size() - stream_.avail_out}));
  } while (stream_.avail_out == 0 || (last && stream_.internal_state.state != ZSTATE_END));
  return ok();
}

Status LayerSink::put(span<const u8> blob) {
  if (gzip_ && !digest_.update(blob)) return Error(ENOTSUP, "EVP_DigestUpdate", "SHA-256");
  result_.size += blob.size();
  while (out_ >= 0 && !blob.empty()) {
    const ssize_t n = ::write(out_, blob.data(), blob.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("write", "layer");
    blob = blob.subspan(static_cast<size_t>(n));
  }
  return ok();
}

Result<SunkLayer> LayerSink::finish() {
  CAISSON_TRY(flush());
  if (gzip_) CAISSON_TRY(deflate(true));
  if (!diff_id_.finish(result_.diff_id)) return Error(ENOTSUP, "EVP_DigestFinal_ex", "SHA-256");
  if (!gzip_)
    memcpy(result_.digest, result_.diff_id, sizeof result_.digest);
  else if (!digest_.finish(result_.digest))
    return Error(ENOTSUP, "EVP_DigestFinal_ex", "SHA-256");
  return result_;
}

}  // namespace caisson
