// Marshalling of D-Bus messages ("Marshaling (Wire Format)" of the specification).
#include "core/dbus.h"
#include "core/utf8.h"

namespace caisson {
namespace {

constexpr char kOwnEndian = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 'l' : 'B';
constexpr u32 kArrayMax = 64 << 20;  // of the specification

enum Field : u8 {
  kPath = 1,
  kInterface = 2,
  kMember = 3,
  kErrorName = 4,
  kReplySerial = 5,
  kDestination = 6,
  kSender = 7,
  kSignature = 8,
};

Error malformed(const char* what) { return Error(EPROTO, "parse D-Bus message", what); }

u32 alignment_of(char type) {
  switch (type) {
    case 'y':
    case 'g':
    case 'v':
      return 1;
    case 'n':
    case 'q':
      return 2;
    case 'x':
    case 't':
    case 'd':
    case '(':
    case '{':
      return 8;
    default:
      return 4;
  }
}

// The length of the first complete type of a signature; 0: it has none.
size_t type_length(string_view signature, size_t depth = 0) {
  if (signature.empty() || depth > kDbusDepthMax) return 0;
  const char first = signature[0];
  if (string_view("ybnqiuxtdsogvh").find(first) != string_view::npos) return 1;
  if (first == 'a') {
    const size_t element = type_length(part(signature, 1), depth + 1);
    return element == 0 ? 0 : element + 1;
  }
  if (first != '(' && first != '{') return 0;
  size_t at = 1;
  while (at < signature.size() && signature[at] != ')' && signature[at] != '}') {
    const size_t member = type_length(part(signature, at), depth + 1);
    if (member == 0) return 0;
    at += member;
  }
  return at < signature.size() && at > 1 && signature[at] == (first == '(' ? ')' : '}') ? at + 1 : 0;
}

bool is_text(string_view text) {
  if (text.find('\0') != string_view::npos) return false;
  while (!text.empty()) {
    const u32 length = utf8_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

template <typename T>
T load(span<const u8> bytes) {
  T value{};
  memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

void DbusWriter::raw(const void* from, size_t size) {
  const u8* bytes = static_cast<const u8*>(from);
  for (size_t i = 0; i < size; ++i) data_.push(bytes[i]);
}

DbusWriter& DbusWriter::align(u32 alignment) {
  while (data_.size() % alignment != 0) data_.push(0);
  return *this;
}

DbusWriter& DbusWriter::byte(u8 value) {
  data_.push(value);
  return *this;
}

DbusWriter& DbusWriter::u32_value(u32 value) {
  align(4);
  raw(&value, sizeof value);
  return *this;
}

DbusWriter& DbusWriter::u64_value(u64 value) {
  align(8);
  raw(&value, sizeof value);
  return *this;
}

DbusWriter& DbusWriter::string(string_view value) {
  value = part(value, 0, value.find('\0'));
  u32_value(static_cast<u32>(value.size()));
  raw(value.data(), value.size());
  return byte(0);
}

DbusWriter& DbusWriter::signature(string_view value) {
  value = part(value, 0, 255);
  byte(static_cast<u8>(value.size()));
  raw(value.data(), value.size());
  return byte(0);
}

DbusWriter& DbusWriter::begin_array(u32 alignment) {
  if (depth_ == kDbusDepthMax) abort();  // a mistake of the caller, found by its first test
  u32_value(0);
  const size_t length_at = data_.size() - 4;
  align(alignment);  // padding before the first element is not counted
  open_[depth_++] = {length_at, data_.size()};
  return *this;
}

DbusWriter& DbusWriter::end_array() {
  const Open& open = open_[--depth_];
  const u32 length = static_cast<u32>(data_.size() - open.start);
  memcpy(data_.data() + open.length_at, &length, sizeof length);
  return *this;
}

DbusWriter& DbusWriter::bytes(span<const u8> value) {
  u32_value(static_cast<u32>(value.size()));
  raw(value.data(), value.size());
  return *this;
}

Result<span<const u8>> DbusReader::take(size_t size, u32 alignment) {
  const size_t start = (at_ + alignment - 1) / alignment * alignment;
  if (start > body_.size() || size > body_.size() - start) return malformed("a value goes beyond its end");
  for (size_t i = at_; i < start; ++i)
    if (body_[i] != 0) return malformed("padding that is not zero");
  at_ = start + size;
  return body_.subspan(start, size);
}

Status DbusReader::take_type(char type) {
  if (repeats_ && signature_.empty()) signature_ = element_;
  if (signature_.empty() || signature_[0] != type) return malformed("a value of another type than expected");
  signature_.remove_prefix(1);
  return ok();
}

Result<u8> DbusReader::byte() {
  CAISSON_TRY(take_type('y'));
  return CAISSON_TRY(take(1, 1))[0];
}

Result<bool> DbusReader::boolean() {
  CAISSON_TRY(take_type('b'));
  const u32 value = load<u32>(CAISSON_TRY(take(4, 4)));
  if (value > 1) return malformed("a boolean that is neither");
  return value == 1;
}

Result<u32> DbusReader::u32_value() {
  CAISSON_TRY(take_type('u'));
  return load<u32>(CAISSON_TRY(take(4, 4)));
}

Result<u64> DbusReader::u64_value() {
  CAISSON_TRY(take_type('t'));
  return load<u64>(CAISSON_TRY(take(8, 8)));
}

Result<string_view> DbusReader::string() {
  if (repeats_ && signature_.empty()) signature_ = element_;
  CAISSON_TRY(take_type(!signature_.empty() && signature_[0] == 'o' ? 'o' : 's'));
  const u32 size = load<u32>(CAISSON_TRY(take(4, 4)));
  if (size >= body_.size()) return malformed("a string goes beyond its end");
  const span<const u8> bytes = CAISSON_TRY(take(size_t{size} + 1, 1));
  const string_view text(reinterpret_cast<const char*>(bytes.data()), size);
  if (bytes[size] != 0 || !is_text(text)) return malformed("a string that is not UTF-8 or holds a NUL");
  return text;
}

Result<string_view> DbusReader::signature_value() {
  CAISSON_TRY(take_type('g'));
  const size_t size = CAISSON_TRY(take(1, 1))[0];
  const span<const u8> bytes = CAISSON_TRY(take(size + 1, 1));
  const string_view text(reinterpret_cast<const char*>(bytes.data()), size);
  if (bytes[size] != 0 || !is_text(text)) return malformed("a signature with a NUL");
  for (size_t at = 0; at < text.size();) {
    const size_t length = type_length(part(text, at));
    if (length == 0) return malformed("a signature that is none");
    at += length;
  }
  return text;
}

Result<DbusReader> DbusReader::variant() {
  CAISSON_TRY(take_type('v'));
  DbusReader inside(body_, "g");
  inside.at_ = at_;
  const string_view type = CAISSON_TRY(inside.signature_value());
  if (type_length(type) != type.size() || type.empty()) return malformed("a variant of not one type");
  inside.signature_ = type;
  at_ = inside.at_;
  CAISSON_TRY(skip_value(type, 0));
  return inside;
}

Result<DbusReader> DbusReader::array() {
  CAISSON_TRY(take_type('a'));
  const size_t length = type_length(signature_);
  if (length == 0) return malformed("an array of no type");
  const string_view element = part(signature_, 0, length);
  signature_.remove_prefix(length);
  const u32 size = load<u32>(CAISSON_TRY(take(4, 4)));
  if (size > kArrayMax) return malformed("an array of over 64 MiB");
  CAISSON_TRY(take(0, alignment_of(element[0])));
  if (size > body_.size() - at_) return malformed("an array goes beyond its end");
  DbusReader inside(body_.subspan(0, at_ + size), {});
  inside.at_ = at_;
  inside.element_ = element;
  inside.repeats_ = true;
  at_ += size;
  return inside;
}

Status DbusReader::begin_struct() {
  if (repeats_ && signature_.empty()) signature_ = element_;
  CAISSON_TRY(take_type(!signature_.empty() && signature_[0] == '{' ? '{' : '('));
  CAISSON_TRY(take(0, 8));
  return ok();
}

Status DbusReader::end_struct() { return take_type(!signature_.empty() && signature_[0] == '}' ? '}' : ')'); }

Status DbusReader::skip() {
  if (repeats_ && signature_.empty()) signature_ = element_;
  const size_t length = type_length(signature_);
  if (length == 0) return malformed("no value is left");
  const string_view type = part(signature_, 0, length);
  signature_.remove_prefix(length);
  return skip_value(type, 0);
}

Status DbusReader::take_padding() {
  CAISSON_TRY(take(0, 8));
  return ok();
}

bool DbusReader::more() const { return repeats_ ? at_ < body_.size() : !signature_.empty(); }

Status DbusReader::skip_value(string_view type, u32 depth) {
  if (depth > kDbusDepthMax) return malformed("values too deep in each other");
  DbusReader value(body_, type);
  value.at_ = at_;
  switch (type[0]) {
    case 's':
    case 'o':
      CAISSON_TRY(value.string());
      break;
    case 'g':
      CAISSON_TRY(value.signature_value());
      break;
    case 'b':
      CAISSON_TRY(value.boolean());
      break;
    case 'v': {
      DbusReader inside(body_, "g");
      inside.at_ = at_;
      const string_view held = CAISSON_TRY(inside.signature_value());
      if (held.empty() || type_length(held) != held.size()) return malformed("a variant of not one type");
      CAISSON_TRY(inside.skip_value(held, depth + 1));
      value.at_ = inside.at_;
      break;
    }
    case 'a': {
      DbusReader inside = CAISSON_TRY(value.array());
      while (inside.at_ < inside.body_.size()) {
        const size_t before = inside.at_;
        CAISSON_TRY(inside.skip_value(inside.element_, depth + 1));
        if (inside.at_ == before) return malformed("an array of nothing");
      }
      break;
    }
    case '(':
    case '{': {
      CAISSON_TRY(value.take(0, 8));
      for (string_view rest = part(type, 1, type.size() - 2); !rest.empty();) {
        const size_t length = type_length(rest);
        CAISSON_TRY(value.skip_value(part(rest, 0, length), depth + 1));
        rest.remove_prefix(length);
      }
      break;
    }
    default: {
      const u32 size = type[0] == 'y' ? 1 : alignment_of(type[0]);  // numbers are as long as they are aligned
      CAISSON_TRY(value.take(size, size));
    }
  }
  at_ = value.at_;
  return ok();
}

Result<size_t> dbus_message_size(span<const u8> first16) {
  if (first16.size() < 16) return malformed("shorter than a header");
  if (first16[0] != kOwnEndian) return malformed("not of this machine's byte order");
  if (first16[3] != 1) return malformed("not of protocol version 1");
  const u64 body = load<u32>(first16.subspan(4, 4));
  const u64 fields = load<u32>(first16.subspan(12, 4));
  const u64 size = 16 + (fields + 7) / 8 * 8 + body;
  if (size > kDbusMessageMax) return Error(EMSGSIZE, "parse D-Bus message", "over 256 KiB");
  return static_cast<size_t>(size);
}

Result<DbusMessage> parse_dbus_message(span<const u8> bytes) {
  const size_t size = CAISSON_TRY(dbus_message_size(bytes));
  if (size != bytes.size()) return malformed("of another size than it says");
  DbusMessage message;
  message.type = bytes[1];
  const u32 body = load<u32>(bytes.subspan(4, 4));
  message.serial = load<u32>(bytes.subspan(8, 4));
  if (message.type == 0 || message.type > DbusMessage::kSignal) return malformed("of an unknown type");
  if (message.serial == 0) return malformed("without a serial");
  DbusReader header(bytes.subspan(0, size - body), "yyyyuua(yv)");
  for (int i = 0; i < 6; ++i) CAISSON_TRY(header.skip());
  DbusReader fields = CAISSON_TRY(header.array());
  while (fields.more()) {
    CAISSON_TRY(fields.begin_struct());
    const u8 code = CAISSON_TRY(fields.byte());
    DbusReader value = CAISSON_TRY(fields.variant());
    CAISSON_TRY(fields.end_struct());
    switch (code) {
      case kPath:
        message.path = String(CAISSON_TRY(value.string()));
        break;
      case kInterface:
        message.interface = String(CAISSON_TRY(value.string()));
        break;
      case kMember:
        message.member = String(CAISSON_TRY(value.string()));
        break;
      case kErrorName:
        message.error = String(CAISSON_TRY(value.string()));
        break;
      case kReplySerial:
        message.reply_serial = CAISSON_TRY(value.u32_value());
        break;
      case kSender:
        message.sender = String(CAISSON_TRY(value.string()));
        break;
      case kSignature:
        message.signature = String(CAISSON_TRY(value.signature_value()));
        break;
      default:
        break;  // "unknown fields must be ignored"
    }
  }
  CAISSON_TRY(header.take_padding());
  const bool answer = message.type == DbusMessage::kReturn || message.type == DbusMessage::kError;
  if (answer && message.reply_serial == 0) return malformed("an answer to nothing");
  if (message.type == DbusMessage::kError && message.error.empty()) return malformed("an error without a name");
  if (!answer && (message.path.empty() || message.member.empty())) return malformed("without path or member");
  message.body.reserve(body);
  for (const u8 each : bytes.subspan(size - body)) message.body.push(each);
  DbusReader all = message.reader();
  while (all.more()) CAISSON_TRY(all.skip());
  if (!all.at_end()) return malformed("a body longer than its signature");
  return message;
}

Vec<u8> marshal_dbus_call(const DbusCall& call, u32 serial) {
  DbusWriter head;
  head.byte(static_cast<u8>(kOwnEndian)).byte(DbusMessage::kCall).byte(0).byte(1);
  head.u32_value(static_cast<u32>(call.body.size())).u32_value(serial);
  head.begin_array(8);
  auto field = [&](Field code, const char* type, string_view value) {
    if (value.empty()) return;
    head.begin_struct().byte(code).signature(type);
    if (type[0] == 'g')
      head.signature(value);
    else
      head.string(value);
  };
  field(kPath, "o", call.path);
  field(kInterface, "s", call.interface);
  field(kMember, "s", call.member);
  field(kDestination, "s", call.destination);
  field(kSignature, "g", call.signature);
  head.end_array().align(8);
  Vec<u8> bytes;
  bytes.reserve(head.data().size() + call.body.size());
  for (const u8 each : head.data()) bytes.push(each);
  for (const u8 each : call.body) bytes.push(each);
  return bytes;
}

}  // namespace caisson
