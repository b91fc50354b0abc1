// The one JSON reader and writer of the native half (RFC 8259): bounded, strict, fuzzed.
#pragma once

#include "core/base.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

struct JsonLimits {
  u32 max_bytes = 4u << 20;
  u32 max_depth = 64;
  u32 max_nodes = 200'000;
};

// One value of a parsed document; valid as long as its JsonDocument. Absent values are Type::kAbsent, so look-ups
// chain: doc.root()["process"]["cwd"].string_or("/").
class JsonValue {
 public:
  enum class Type : u8 { kAbsent, kNull, kBool, kNumber, kString, kArray, kObject };

  Type type() const { return type_; }
  bool present() const { return type_ != Type::kAbsent && type_ != Type::kNull; }
  bool is_string() const { return type_ == Type::kString; }
  bool is_array() const { return type_ == Type::kArray; }
  bool is_object() const { return type_ == Type::kObject; }

  // Strict readers: the wrong type, a fraction, or a number out of range is an Error(EINVAL, "parse", what).
  Result<bool> boolean(string_view what) const;
  Result<i64> i64_value(string_view what) const;
  Result<u64> u64_value(string_view what) const;
  Result<u32> u32_value(string_view what) const;
  Result<string_view> string(string_view what) const;

  // Lenient readers for documents of our own.
  bool bool_or(bool fallback) const;
  i64 i64_or(i64 fallback) const;
  u64 u64_or(u64 fallback) const;
  string_view string_or(string_view fallback) const;  // a string of a document is NUL-terminated and holds no NUL
  string_view number_text() const;                    // a number as written; empty for any other type

  // Arrays and objects: children in document order.
  u32 size() const;                                    // 0 unless an array or object
  const JsonValue& at(u32 index) const;                // absent when out of range
  string_view key_at(u32 index) const;                 // objects only
  const JsonValue& operator[](string_view key) const;  // objects only; the last of duplicate keys; else absent
  static const JsonValue& absent();

 private:
  friend class JsonParser;
  Type type_ = Type::kAbsent;
  bool bool_ = false;
  u32 size_ = 0;                       // children, or length of text
  const char* text_ = nullptr;         // string (unescaped, NUL-terminated) or number as written
  const JsonValue* child_ = nullptr;   // size_ consecutive children
  const string_view* keys_ = nullptr;  // size_ keys of an object
};

class JsonDocument {
 public:
  // Errors: EINVAL "line 3 column 7: expected ':'", E2BIG where a limit is passed. The text is copied. Duplicate keys
  // are accepted (last wins); invalid UTF-8, NUL in a string, trailing text are not.
  static Result<JsonDocument> parse(string_view text, const JsonLimits& limits = {});
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();
  const JsonValue& root() const { return *root_; }

 private:
  friend class JsonParser;
  JsonDocument() : root_(&JsonValue::absent()) {}
  struct Arena;
  Arena* arena_ = nullptr;
  const JsonValue* root_;
};

// Appends to a String; commas and quoting are its business. The output is always valid UTF-8 on one line: a byte that
// is none is written as U+FFFD.
class JsonWriter {
 public:
  explicit JsonWriter(String& out) : out_(out) {}
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(string_view k);
  JsonWriter& value(string_view s);
  JsonWriter& value(const char* s) { return value(string_view(s)); }
  JsonWriter& value(bool b);
  JsonWriter& value(i64 n);
  JsonWriter& value(u64 n);
  JsonWriter& value(i32 n) { return value(static_cast<i64>(n)); }
  JsonWriter& value(u32 n) { return value(static_cast<u64>(n)); }
  JsonWriter& value_text(i64 n);          // as a decimal string: for 64-bit numbers that JavaScript reads (nanoseconds)
  JsonWriter& value(const JsonValue& v);  // with everything in it; absent is written as null
  JsonWriter& raw(string_view json);      // one value that is JSON already
  JsonWriter& null();
  JsonWriter& member(string_view k, const String& v) { return key(k).value(v.view()); }
  template <typename T>
  JsonWriter& member(string_view k, T v) {
    return key(k).value(v);
  }

 private:
  void separate();
  JsonWriter& open(char c);
  JsonWriter& close(char c);
  String& out_;
  bool fresh_ = true;  // no comma is due
};

}  // namespace caisson
