// Readers of parsed values. Integers are read from the number as written, so no 64-bit value passes through a double.
#include "core/json.h"

namespace caisson {

namespace {

constinit const JsonValue kAbsentValue;

// An integer without fraction or exponent: sign and magnitude.
struct Integer {
  bool negative = false;
  u64 magnitude = 0;
};

enum class Read : u8 { kOk, kNotInteger, kRange };

Read read_integer(string_view text, Integer& out) {
  if (!text.empty() && text[0] == '-') {
    out.negative = true;
    text.remove_prefix(1);
  }
  for (const char c : text)
    if (c < '0' || c > '9') return Read::kNotInteger;
  for (const char c : text) {
    if (__builtin_mul_overflow(out.magnitude, u64{10}, &out.magnitude)) return Read::kRange;
    if (__builtin_add_overflow(out.magnitude, static_cast<u64>(c - '0'), &out.magnitude)) return Read::kRange;
  }
  return Read::kOk;
}

constexpr u64 kI64Magnitude = u64{1} << 63;  // of the smallest i64

bool fits_i64(const Integer& n) { return n.magnitude < kI64Magnitude + (n.negative ? 1 : 0); }
i64 as_i64(const Integer& n) { return static_cast<i64>(n.negative ? 0 - n.magnitude : n.magnitude); }
bool fits_u64(const Integer& n) { return !n.negative || n.magnitude == 0; }

Error wrong(string_view what, string_view why) {
  String text(what);
  text.append(": ").append(why);
  return Error(EINVAL, "parse", text);
}

}  // namespace

const JsonValue& JsonValue::absent() { return kAbsentValue; }

string_view JsonValue::number_text() const {
  return type_ == Type::kNumber ? string_view(text_, size_) : string_view();
}

Result<bool> JsonValue::boolean(string_view what) const {
  if (type_ != Type::kBool) return wrong(what, "must be true or false");
  return bool_;
}

Result<i64> JsonValue::i64_value(string_view what) const {
  Integer n;
  const Read read = type_ == Type::kNumber ? read_integer({text_, size_}, n) : Read::kNotInteger;
  if (read == Read::kNotInteger) return wrong(what, "must be an integer");
  if (read == Read::kRange || !fits_i64(n)) return wrong(what, "out of range");
  return as_i64(n);
}

Result<u64> JsonValue::u64_value(string_view what) const {
  Integer n;
  const Read read = type_ == Type::kNumber ? read_integer({text_, size_}, n) : Read::kNotInteger;
  if (read == Read::kNotInteger) return wrong(what, "must be an integer");
  if (read == Read::kRange || !fits_u64(n)) return wrong(what, "out of range");
  return n.magnitude;
}

Result<u32> JsonValue::u32_value(string_view what) const {
  const u64 n = CAISSON_TRY(u64_value(what));
  if (n > UINT32_MAX) return wrong(what, "out of range");
  return static_cast<u32>(n);
}

Result<string_view> JsonValue::string(string_view what) const {
  if (type_ != Type::kString) return wrong(what, "must be a string");
  return string_view(text_, size_);
}

bool JsonValue::bool_or(bool fallback) const { return type_ == Type::kBool ? bool_ : fallback; }

i64 JsonValue::i64_or(i64 fallback) const {
  Integer n;
  if (type_ != Type::kNumber || read_integer({text_, size_}, n) != Read::kOk || !fits_i64(n)) return fallback;
  return as_i64(n);
}

u64 JsonValue::u64_or(u64 fallback) const {
  Integer n;
  if (type_ != Type::kNumber || read_integer({text_, size_}, n) != Read::kOk || !fits_u64(n)) return fallback;
  return n.magnitude;
}

string_view JsonValue::string_or(string_view fallback) const {
  return type_ == Type::kString ? string_view(text_, size_) : fallback;
}

u32 JsonValue::size() const { return type_ == Type::kArray || type_ == Type::kObject ? size_ : 0; }

const JsonValue& JsonValue::at(u32 index) const { return index < size() ? child_[index] : kAbsentValue; }

string_view JsonValue::key_at(u32 index) const {
  return type_ == Type::kObject && index < size_ ? keys_[index] : string_view();
}

const JsonValue& JsonValue::operator[](string_view key) const {
  if (type_ != Type::kObject) return kAbsentValue;
  for (u32 i = size_; i-- != 0;)
    if (keys_[i] == key) return child_[i];
  return kAbsentValue;
}

}  // namespace caisson
