#include "core/unpack/tar_reader.h"

namespace caisson::tar {
namespace {

u64 padding_of(u64 size) { return (kBlock - size % kBlock) % kBlock; }

}  // namespace

Error Reader::bad(const char* what) const {
  return Error(EBADMSG, what, entry_.path.empty() ? string_view("start of the archive") : entry_.path.view());
}

// A whole block from the input, in place where it lies there in one piece.
const u8* Reader::take_block(span<const u8>& input) {
  if (have_ == 0 && input.size() >= kBlock) {
    const u8* block = input.data();
    input = input.subspan(kBlock);
    return block;
  }
  size_t n = kBlock - have_ < input.size() ? kBlock - have_ : input.size();
  if (n != 0) memcpy(block_ + have_, input.data(), n);
  have_ += n;
  input = input.subspan(n);
  if (have_ != kBlock) return nullptr;
  have_ = 0;
  return block_;
}

Result<Reader::Event> Reader::next(span<const u8>& input) {
  for (;;) {
    switch (state_) {
      case State::kHeader: {
        const u8* block = take_block(input);
        if (block == nullptr) return Event::kMore;
        CAISSON_TRY(read_header(block));
        break;
      }
      case State::kMeta: {
        u64 n = meta_left_ < input.size() ? meta_left_ : input.size();
        meta_.append(string_view(reinterpret_cast<const char*>(input.data()), n));
        input = input.subspan(n);
        meta_left_ -= n;
        if (meta_left_ != 0) return Event::kMore;
        CAISSON_TRY(end_meta());
        state_ = State::kPadding;
        break;
      }
      case State::kSparseBlocks: {
        const u8* block = take_block(input);
        if (block == nullptr) return Event::kMore;
        CAISSON_TRY(account(kBlock));
        CAISSON_TRY(read_extents(block, kSparseInBlock));
        if (block[kSparseBlockMoreAt] != 0) break;
        CAISSON_TRY(check_extents());
        state_ = State::kBegin;
        break;
      }
      case State::kSparseText: {
        const u8* block = take_block(input);
        if (block == nullptr) return Event::kMore;
        CAISSON_TRY(read_sparse_text(block));
        break;
      }
      case State::kBegin:
        ++entries_;
        reset_overrides();
        state_ = State::kData;
        return Event::kEntry;
      case State::kData:
        if (left_ == 0) {
          state_ = State::kPadding;
          return Event::kEntryEnd;
        }
        if (input.empty()) return Event::kMore;
        if (take_data(input)) return Event::kData;
        break;
      case State::kPadding: {
        u64 n = padding_ < input.size() ? padding_ : input.size();
        input = input.subspan(n);
        padding_ -= n;
        if (padding_ != 0) return Event::kMore;
        state_ = State::kHeader;
        break;
      }
      case State::kEnd:
        input = {};
        return Event::kMore;
    }
  }
}

Status Reader::finish() const {
  if (state_ == State::kEnd) return ok();
  if (state_ == State::kHeader && have_ == 0 && !pending_) return ok();
  // umoci's insert (0.4.7) does not fill up the last block; Go's readers, which all others share, do not mind
  if (state_ == State::kPadding && !pending_) return ok();
  return bad(state_ == State::kHeader ? "read tar: the archive is cut short after"
                                      : "read tar: the archive is cut short in");
}

// Cuts the next piece of data; false when it is passed over.
bool Reader::take_data(span<const u8>& input) {
  u64 n = left_ < input.size() ? left_ : input.size();
  if (entry_.sparse) {
    while (extent_done_ == extents_[extent_].size) {  // ends: check_extents() has them add up to the stored size
      ++extent_;
      extent_done_ = 0;
    }
    const Extent& extent = extents_[extent_];
    if (n > extent.size - extent_done_) n = extent.size - extent_done_;
    offset_ = extent.offset + extent_done_;
    extent_done_ += n;
  } else {
    offset_ = entry_.stored - left_;
  }
  data_ = input.first(n);
  input = input.subspan(n);
  left_ -= n;
  return !discard_;
}

Status Reader::account(u64 bytes) {
  if (bytes > limits_.max_bytes || bytes_ > limits_.max_bytes - bytes)
    return Error(EFBIG, "read tar: the content exceeds its limit at", entry_.path);
  bytes_ += bytes;
  return ok();
}

Status Reader::read_header(const u8* block) {
  if (is_zero_block(block)) {
    if (pending_) return bad("read tar: the archive is cut short after");
    state_ = State::kEnd;
    return ok();
  }
  if (!checksum_holds(block)) return bad("read tar: not a tar header (its checksum does not match) after");
  i64 size = 0;
  if (!number_of(block, kSize, size) || size < 0) return bad("read tar: malformed size in the entry after");
  char kind = static_cast<char>(block[kTypeAt]);
  switch (kind) {
    case 'x':
    case 'X':  // Solaris' name for it
      return begin_meta('x', static_cast<u64>(size));
    case 'g':
    case 'L':
    case 'K':
      return begin_meta(kind, static_cast<u64>(size));
    default:
      return begin_entry(block, kind, static_cast<u64>(size));
  }
}

Status Reader::begin_meta(char kind, u64 size) {
  u64 bound = kind == 'x' || kind == 'g' ? limits_.max_pax : u64{limits_.max_name} + 1;  // GNU counts a NUL
  if (size > bound)
    return Error(bound == limits_.max_pax ? E2BIG : ENAMETOOLONG, "read tar: extended header exceeds its limit after",
                 entry_.path);
  CAISSON_TRY(account(size));
  // An entry may come with one of each kind; without a bound, empty ones would go on for ever.
  if (++extended_ / 4 > limits_.max_entries)
    return Error(E2BIG, "read tar: too many extended headers after", entry_.path);
  if (!pending_) pax_.copy_plain_from(global_);
  if (kind != 'g') pending_ = true;
  meta_kind_ = kind;
  meta_left_ = size;
  meta_.clear();
  padding_ = padding_of(size);
  state_ = State::kMeta;
  return ok();
}

Status Reader::end_meta() {
  string_view text = meta_.view();
  switch (meta_kind_) {
    case 'x':
      return parse_pax(text, limits_, false, pax_);
    case 'g':
      if (pending_) return bad("read tar: global header inside of an entry's headers after");
      return parse_pax(text, limits_, true, global_);
    default: {
      String& out = meta_kind_ == 'L' ? long_name_ : long_link_;
      out.clear();
      out.append(string_view(text.data(), strnlen(text.data(), text.size())));
      return ok();
    }
  }
}

void Reader::reset_overrides() {
  pending_ = false;
  pax_.clear();
  long_name_.clear();
  long_link_.clear();
}

Status Reader::begin_entry(const u8* block, char kind, u64 size) {
  if (!pending_) pax_.copy_plain_from(global_);
  CAISSON_TRY(set_names(block));
  if (entries_ >= limits_.max_entries) return Error(E2BIG, "read tar: too many entries at", entry_.path);
  discard_ = false;
  switch (kind) {
    case '0':
    case '7':  // contiguous: a matter of layout on the disks of then
    case 'S':
      entry_.type = Type::kFile;
      break;
    case '\0':  // V7 had no type for directories: the name tells
      entry_.type = entry_.path.view().back() == '/' ? Type::kDirectory : Type::kFile;
      break;
    case '1':
      entry_.type = Type::kHardLink;
      break;
    case '2':
      entry_.type = Type::kSymlink;
      break;
    case '3':
      entry_.type = Type::kCharDevice;
      break;
    case '4':
      entry_.type = Type::kBlockDevice;
      break;
    case '5':
    case 'D':  // GNU incremental: a directory with the list of its names as data
      entry_.type = Type::kDirectory;
      break;
    case '6':
      entry_.type = Type::kFifo;
      break;
    default:
      // Volume labels, continued files, sockets of other systems' tars. POSIX would have them extracted as plain
      // files, which gives an image nobody meant.
      return Error(ENOTSUP, "read tar: unknown type of entry", entry_.path);
  }
  CAISSON_TRY(set_attributes(block));

  // Links, devices and directories have no data whatever their size field says (old writers put the file's size into
  // a link); archive/tar of Go, which writes most images, reads them so.
  bool holds_data = entry_.type == Type::kFile || kind == 'D';
  discard_ = kind == 'D';
  left_ = !holds_data ? 0 : pax_.has_size ? pax_.size : size;
  CAISSON_TRY(account(left_));
  padding_ = padding_of(left_);
  entry_.stored = entry_.size = entry_.type == Type::kFile ? left_ : 0;
  entry_.sparse = false;
  state_ = State::kBegin;
  if (kind == 'S') return begin_old_sparse(block);
  if (pax_.sparse && entry_.type == Type::kFile) return begin_pax_sparse();
  return ok();
}

Status Reader::set_names(const u8* block) {
  entry_.path.clear();
  entry_.link.clear();
  if (!pax_.sparse_name.empty()) {
    entry_.path.append(pax_.sparse_name);
  } else if (!pax_.path.empty()) {
    entry_.path.append(pax_.path);
  } else if (!long_name_.empty()) {
    entry_.path.append(long_name_);
  } else {
    Dialect dialect = dialect_of(block);
    string_view prefix = dialect == Dialect::kUstar  ? text_of(block, kPrefix)
                         : dialect == Dialect::kStar ? text_of(block, kStarPrefix)
                                                     : string_view();
    if (!prefix.empty()) entry_.path.append(prefix).append('/');
    entry_.path.append(text_of(block, kName));
  }
  if (entry_.path.empty()) return Error(EBADMSG, "read tar: an entry has no name");
  entry_.link.append(!pax_.link.empty()    ? pax_.link.view()
                     : !long_link_.empty() ? long_link_.view()
                                           : text_of(block, kLinkName));
  return ok();
}

Status Reader::set_attributes(const u8* block) {
  i64 mode = 0;
  i64 uid = 0;
  i64 gid = 0;
  i64 mtime = 0;
  // A field that PAX overrides may hold anything: writers leave it unset where the number does not fit.
  if (!number_of(block, kMode, mode)) return bad("read tar: malformed mode of");
  if (!pax_.has_uid && !number_of(block, kUid, uid)) return bad("read tar: malformed owner of");
  if (!pax_.has_gid && !number_of(block, kGid, gid)) return bad("read tar: malformed group of");
  if (!pax_.has_mtime && !number_of(block, kMtime, mtime)) return bad("read tar: malformed time of");
  // (uid_t)-1 is "leave it" to chown(2), hence no id.
  if (uid < 0 || uid >= i64{UINT32_MAX}) return bad("read tar: owner out of range of");
  if (gid < 0 || gid >= i64{UINT32_MAX}) return bad("read tar: group out of range of");
  entry_.mode = static_cast<u32>(mode) & 07777;
  entry_.uid = pax_.has_uid ? pax_.uid : static_cast<u32>(uid);
  entry_.gid = pax_.has_gid ? pax_.gid : static_cast<u32>(gid);
  entry_.mtime = pax_.has_mtime ? pax_.mtime : mtime;
  entry_.mtime_nsec = pax_.has_mtime ? pax_.mtime_nsec : 0;
  entry_.dev_major = entry_.dev_minor = 0;
  if (entry_.type == Type::kCharDevice || entry_.type == Type::kBlockDevice) {
    i64 major = 0;
    i64 minor = 0;
    if (!number_of(block, kDevMajor, major) || !number_of(block, kDevMinor, minor))
      return bad("read tar: malformed device number of");
    // 12 and 20 bits: MINORBITS of the kernel
    if (major < 0 || major >= 1 << 12 || minor < 0 || minor >= 1 << 20)
      return bad("read tar: device number out of range of");
    entry_.dev_major = static_cast<u32>(major);
    entry_.dev_minor = static_cast<u32>(minor);
  }
  entry_.xattrs = static_cast<Vec<Xattr>&&>(pax_.xattrs);
  return ok();
}

}  // namespace caisson::tar
