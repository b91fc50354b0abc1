// Sparse files in tar: where the stored bytes of a file belong.
//
// Four encodings (GNU tar manual, "Storing Sparse Files"): old GNU, in the header and extension blocks; PAX 0.0 and
// 0.1, in the extended header; PAX 1.0, as decimal lines in front of the data.
#include "core/unpack/tar_reader.h"

namespace caisson::tar {

// Extents ascend without overlap, lie inside of the file, and add up to what is stored.
Status Reader::check_extents() const {
  u64 end = 0;
  u64 sum = 0;
  for (const Extent& extent : extents_) {
    u64 extent_end = 0;
    if (extent.offset < end || __builtin_add_overflow(extent.offset, extent.size, &extent_end) ||
        extent_end > entry_.size)
      return bad("read tar: sparse map out of order in");
    end = extent_end;
    sum += extent.size;
  }
  if (sum != entry_.stored) return bad("read tar: sparse map does not fit the size of");
  return ok();
}

Status Reader::read_extents(const u8* at, size_t count) {
  for (size_t i = 0; i < count; ++i, at += kSparseExtent) {
    if (at[0] == '\0') break;  // unused slots are zero
    i64 offset = 0;
    i64 size = 0;
    if (!number_of(at, {0, 12}, offset) || !number_of(at, {12, 12}, size) || offset < 0 || size < 0)
      return bad("read tar: malformed sparse map in");
    if (extents_.size() >= limits_.max_extents)
      return Error(E2BIG, "read tar: sparse map exceeds its limit in", entry_.path);
    extents_.push(Extent{static_cast<u64>(offset), static_cast<u64>(size)});
  }
  return ok();
}

Status Reader::begin_old_sparse(const u8* block) {
  i64 real = 0;
  if (!number_of(block, kSparseRealSize, real) || real < 0) return bad("read tar: malformed size of");
  entry_.sparse = true;
  entry_.size = static_cast<u64>(real);
  extents_.clear();
  extent_ = 0;
  extent_done_ = 0;
  CAISSON_TRY(read_extents(block + kSparseAt, kSparseInHeader));
  if (block[kSparseMoreAt] != 0) {
    state_ = State::kSparseBlocks;
    return ok();
  }
  return check_extents();
}

Status Reader::begin_pax_sparse() {
  if (!pax_.has_sparse_size) return bad("read tar: sparse file without its size:");
  entry_.sparse = true;
  entry_.size = pax_.sparse_size;
  extents_.clear();
  extent_ = 0;
  extent_done_ = 0;
  if (pax_.sparse_major == 0) {
    extents_ = static_cast<Vec<Extent>&&>(pax_.extents);
    return check_extents();
  }
  sparse_number_ = 0;
  sparse_digits_ = false;
  sparse_counted_ = false;
  state_ = State::kSparseText;
  return ok();
}

Status Reader::take_sparse_number(u64 number) {
  if (number > static_cast<u64>(INT64_MAX)) return bad("read tar: malformed sparse map in");
  if (!sparse_counted_) {
    if (number > limits_.max_extents) return Error(E2BIG, "read tar: sparse map exceeds its limit in", entry_.path);
    sparse_counted_ = true;
    sparse_expected_ = 2 * number;
    return ok();
  }
  if (sparse_expected_ % 2 == 0)
    extents_.push(Extent{number, 0});
  else
    extents_.back().size = number;
  --sparse_expected_;
  return ok();
}

// PAX 1.0: "COUNT\n", then "OFFSET\nSIZE\n" for each extent; padded with anything to a whole block.
Status Reader::read_sparse_text(const u8* block) {
  if (left_ < kBlock) return bad("read tar: sparse map does not fit the size of");
  left_ -= kBlock;
  entry_.stored -= kBlock;
  for (size_t i = 0; i < kBlock; ++i) {
    if (sparse_counted_ && sparse_expected_ == 0) break;
    u8 c = block[i];
    if (c >= '0' && c <= '9') {
      if (__builtin_mul_overflow(sparse_number_, u64{10}, &sparse_number_) ||
          __builtin_add_overflow(sparse_number_, u64{c} - '0', &sparse_number_))
        return bad("read tar: malformed sparse map in");
      sparse_digits_ = true;
      continue;
    }
    if (c != '\n' || !sparse_digits_) return bad("read tar: malformed sparse map in");
    CAISSON_TRY(take_sparse_number(std::exchange(sparse_number_, 0)));
    sparse_digits_ = false;
  }
  if (!sparse_counted_ || sparse_expected_ != 0) return ok();  // goes on in the next block
  state_ = State::kBegin;
  return check_extents();
}

}  // namespace caisson::tar
