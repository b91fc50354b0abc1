// The writer: always well-formed UTF-8 JSON on one line, so that a document can be one line of a log or a record.
#include "core/json.h"
#include "core/utf8.h"

namespace caisson {

namespace {

void append_quoted(String& out, string_view s) {
  constexpr char kHex[] = "0123456789abcdef";
  out.append('"');
  size_t run = 0;  // start of what needs no escape
  auto replace = [&](size_t at, size_t length, string_view with) {
    out.append(part(s, run, at - run)).append(with);
    run = at + length;
  };
  for (size_t i = 0; i < s.size();) {
    const u8 c = static_cast<u8>(s[i]);
    const u32 length = utf8_sequence(part(s, i));
    if (length == 0) {
      replace(i, 1, "\xEF\xBF\xBD");  // U+FFFD: file names and messages of others need not be UTF-8
    } else if (c == '"' || c == '\\') {
      const char escaped[] = {'\\', static_cast<char>(c)};
      replace(i, 1, {escaped, sizeof escaped});
    } else if (c == '\n') {
      replace(i, 1, "\\n");
    } else if (c == '\t') {
      replace(i, 1, "\\t");
    } else if (c < 0x20) {
      const char escaped[] = {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
      replace(i, 1, {escaped, sizeof escaped});
    }
    i += length == 0 ? 1 : length;
  }
  out.append(part(s, run)).append('"');
}

}  // namespace

void JsonWriter::separate() {
  if (!fresh_) out_.append(',');
  fresh_ = false;
}

JsonWriter& JsonWriter::open(char c) {
  separate();
  out_.append(c);
  fresh_ = true;
  return *this;
}

JsonWriter& JsonWriter::close(char c) {
  out_.append(c);
  fresh_ = false;
  return *this;
}

JsonWriter& JsonWriter::begin_object() { return open('{'); }
JsonWriter& JsonWriter::end_object() { return close('}'); }
JsonWriter& JsonWriter::begin_array() { return open('['); }
JsonWriter& JsonWriter::end_array() { return close(']'); }

JsonWriter& JsonWriter::key(string_view k) {
  separate();
  append_quoted(out_, k);
  out_.append(':');
  fresh_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(string_view s) {
  separate();
  append_quoted(out_, s);
  return *this;
}

JsonWriter& JsonWriter::value(bool b) { return raw(b ? "true" : "false"); }
JsonWriter& JsonWriter::null() { return raw("null"); }

JsonWriter& JsonWriter::value(i64 n) {
  separate();
  out_.append_i64(n);
  return *this;
}

JsonWriter& JsonWriter::value(u64 n) {
  separate();
  out_.append_u64(n);
  return *this;
}

JsonWriter& JsonWriter::value_text(i64 n) {
  separate();
  out_.append('"').append_i64(n).append('"');
  return *this;
}

JsonWriter& JsonWriter::raw(string_view json) {
  separate();
  out_.append(json);
  return *this;
}

JsonWriter& JsonWriter::value(const JsonValue& v) {
  switch (v.type()) {
    case JsonValue::Type::kAbsent:
    case JsonValue::Type::kNull:
      return null();
    case JsonValue::Type::kBool:
      return value(v.bool_or(false));
    case JsonValue::Type::kNumber:
      return raw(v.number_text());
    case JsonValue::Type::kString:
      return value(v.string_or({}));
    case JsonValue::Type::kArray:
      begin_array();
      for (u32 i = 0; i < v.size(); ++i) value(v.at(i));
      return end_array();
    case JsonValue::Type::kObject:
      begin_object();
      for (u32 i = 0; i < v.size(); ++i) key(v.key_at(i)).value(v.at(i));
      return end_object();
  }
  return *this;
}

}  // namespace caisson
