#include "addon/decoder.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

namespace caisson {

namespace {

constexpr u8 kGzipMagic[] = {0x1f, 0x8b};
constexpr u8 kZstdMagic[] = {0x28, 0xb5, 0x2f, 0xfd};
// Of skippable frames, with which zstd:chunked and others begin: 0x184D2A50 to 5F, little endian (RFC 8878, 3.1.2).
constexpr u8 kSkippableMagic[] = {0x2a, 0x4d, 0x18};

// What there is from `offset` on, at most; of a blob that grows, once there is something. Nothing: it has ended.
Result<size_t> read_at(const BlobInput& input, u64 offset, span<u8> to) {
  for (;;) {
    if (input.cancelled) return Error(ECANCELED, "unpack", "layer");
    const ssize_t n = pread(input.fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::last("pread", "layer");
    if (n != 0 || input.growth == nullptr || !input.growth->wait(offset, input.cancelled))
      return static_cast<size_t>(n);
  }
}

class Plain : public Decoder {
 public:
  explicit Plain(const BlobInput& input) : Decoder(input) {}
  Result<size_t> read(span<u8> out) override {
    if (rest_.empty()) rest_ = CAISSON_TRY(more());
    const size_t n = rest_.size() < out.size() ? rest_.size() : out.size();
    if (n != 0) memcpy(out.data(), rest_.data(), n);
    rest_ = rest_.subspan(n);
    return n;
  }

 private:
  span<u8> rest_;
};

// RFC 1952, with several members one after the other, as pigz and eStargz write them.
class Gzip : public Decoder {
 public:
  explicit Gzip(const BlobInput& input) : Decoder(input) { begin(); }

  Result<size_t> read(span<u8> out) override {
    state_.next_out = out.data();
    state_.avail_out = static_cast<u32>(out.size());
    while (!ended_ && state_.avail_out != 0) {
      if (state_.avail_in == 0) CAISSON_TRY(refill());
      if (between_ && CAISSON_TRY(last_member())) break;
      const u32 before = state_.avail_out;
      const bool dry = state_.avail_in == 0;
      if (isal_inflate(&state_) != ISAL_DECOMP_OK) return damaged();
      if (state_.block_state == ISAL_BLOCK_FINISH) {
        between_ = true;
      } else if (dry && state_.avail_out == before) {
        return damaged();  // the blob has ended in the middle of a member
      }
    }
    return out.size() - state_.avail_out;
  }

 private:
  static Error damaged() { return Error(EBADMSG, "decompress", "gzip"); }

  void begin() {
    isal_inflate_init(&state_);
    state_.crc_flag = ISAL_GZIP;  // reads the header, and checks CRC and length
  }

  Status refill() {
    const span<u8> next = CAISSON_TRY(more());
    state_.next_in = next.data();
    state_.avail_in = static_cast<u32>(next.size());
    return ok();
  }

  // After a member: whether nothing follows. What is no member, zeros say, is let be, as gzip(1) does.
  Result<bool> last_member() {
    if (state_.avail_in == 0) {
      ended_ = true;
      return true;
    }
    if (*state_.next_in != kGzipMagic[0]) {
      ended_ = true;
      return true;
    }
    u8* const in = state_.next_in;
    u8* const out = state_.next_out;
    const u32 avail_in = state_.avail_in;
    const u32 avail_out = state_.avail_out;
    begin();
    state_.next_in = in;
    state_.avail_in = avail_in;
    state_.next_out = out;
    state_.avail_out = avail_out;
    between_ = false;
    return false;
  }

  inflate_state state_ = {};
  bool between_ = false;
  bool ended_ = false;
};

class Zstd : public Decoder {
 public:
  explicit Zstd(const BlobInput& input) : Decoder(input), stream_(ZSTD_createDStream()) {}
  ~Zstd() override { ZSTD_freeDStream(stream_); }

  Result<size_t> read(span<u8> out) override {
    if (stream_ == nullptr) return Error(ENOMEM, "decompress", "zstd");
    ZSTD_outBuffer to = {out.data(), out.size(), 0};
    while (to.pos < to.size) {
      if (in_.pos == in_.size) {
        const span<u8> next = CAISSON_TRY(more());
        // ZSTD_decompressStream() may still hold bytes that did not fit before: they come without input, too.
        if (next.empty() && whole_) break;
        in_ = {next.data(), next.size(), 0};
      }
      const size_t before = to.pos;
      const bool dry = in_.size == 0;
      const size_t hint = ZSTD_decompressStream(stream_, &to, &in_);
      if (ZSTD_isError(hint) != 0) return Error(EBADMSG, "decompress", "zstd");
      whole_ = hint == 0;
      if (dry && to.pos == before) return Error(EBADMSG, "decompress", "zstd");
    }
    return to.pos;
  }

 private:
  ZSTD_DStream* stream_;
  ZSTD_inBuffer in_ = {nullptr, 0, 0};
  bool whole_ = true;  // between frames
};

}  // namespace

Result<std::unique_ptr<Decoder>> Decoder::open(const BlobInput& input) {
  u8 head[sizeof kZstdMagic] = {};
  CAISSON_TRY(read_at(input, 0, head));
  std::unique_ptr<Decoder> decoder;
  const bool skippable = (head[0] & 0xf0) == 0x50 && memcmp(head + 1, kSkippableMagic, sizeof kSkippableMagic) == 0;
  if (memcmp(head, kGzipMagic, sizeof kGzipMagic) == 0)
    decoder.reset(new Gzip(input));
  else if (skippable || memcmp(head, kZstdMagic, sizeof kZstdMagic) == 0)
    decoder.reset(new Zstd(input));
  else
    decoder.reset(new Plain(input));
  return decoder;
}

Result<size_t> Decoder::read(span<u8> out, const ExpansionLimits& limits) {
  const size_t n = CAISSON_TRY(read(out));
  expanded_ += n;
  if (expanded_ > limits.max_expanded) return Error(EFBIG, "expand", "bytes");
  if (expanded_ > limits.ratio_floor && expanded_ / limits.max_ratio > consumed())
    return Error(EFBIG, "expand", "ratio");
  return n;
}

Result<span<u8>> Decoder::more() {
  const size_t n = CAISSON_TRY(read_at(input_, offset_, {buffer_.data(), buffer_.size()}));
  offset_ += n;
  return span<u8>(buffer_.data(), n);
}

}  // namespace caisson
