// The parser: one pass over a private copy of the text. Strings are unescaped in place (an escape is never shorter than
// what it stands for, and the closing quote makes room for the NUL), so a document costs its text plus its nodes. Open
// containers are frames on an explicit stack: the depth of a document never becomes the depth of ours.
#include "core/json.h"

#include <stddef.h>

#include "core/utf8.h"

namespace caisson {

struct JsonDocument::Arena {
  struct Block {
    Block* next;
    size_t used;
    size_t size;
  };
  static constexpr size_t kAlign = alignof(max_align_t);
  static constexpr size_t kBlockMin = 4096;

  void* take(size_t bytes) {
    bytes = (bytes + kAlign - 1) & ~(kAlign - 1);
    if (head == nullptr || head->size - head->used < bytes) add(bytes);
    void* at = reinterpret_cast<char*>(head + 1) + head->used;
    head->used += bytes;
    return at;
  }
  void add(size_t bytes) {
    size_t size = head == nullptr ? kBlockMin : head->size * 2;
    if (size > 32 * kBlockMin) size = 32 * kBlockMin;
    if (size < bytes) size = bytes;
    Block* block = static_cast<Block*>(malloc(sizeof(Block) + size));
    if (block == nullptr) abort();
    *block = {head, 0, size};
    head = block;
  }
  ~Arena() {
    while (head != nullptr) free(std::exchange(head, head->next));
  }

  Block* head = nullptr;
};
static_assert(sizeof(JsonValue) <= 32);

class JsonParser {
 public:
  JsonParser(string_view source, const JsonLimits& limits, JsonDocument::Arena& arena)
      : source_(source), limits_(limits), arena_(arena) {
    begin_ = static_cast<char*>(arena.take(source.size() + 1));
    if (!source.empty()) memcpy(begin_, source.data(), source.size());
    end_ = begin_ + source.size();
    *end_ = '\0';
    at_ = begin_;
  }

  Result<const JsonValue*> run() {
    CAISSON_TRY(values());
    skip_space();
    if (at_ != end_) return bad("text after the document");
    JsonValue* root = static_cast<JsonValue*>(arena_.take(sizeof(JsonValue)));
    return static_cast<const JsonValue*>(new (root) JsonValue(values_[0]));
  }

 private:
  struct Frame {
    bool object;
    size_t first_value;  // of values_
    size_t first_key;    // of keys_
  };

  // Reads one value with everything in it.
  Status values() {
    bool after_value = false;  // a value has just ended: its container decides what follows
    for (;;) {
      if (!after_value) after_value = CAISSON_TRY(value());
      if (frames_.empty()) return ok();
      Frame& frame = frames_.back();
      skip_space();
      const char close = frame.object ? '}' : ']';
      const bool first = !after_value;
      after_value = false;
      if (at_ != end_ && *at_ == close) {
        ++at_;
        finish(frame);
        frames_.pop();
        after_value = true;
        if (frames_.empty()) return ok();
        continue;
      }
      if (!first) {
        if (at_ == end_ || *at_ != ',') return bad(frame.object ? "expected ',' or '}'" : "expected ',' or ']'");
        ++at_;
        skip_space();
      }
      if (frame.object) CAISSON_TRY(key());
    }
  }

  // Reads a scalar (true) or opens a container (false).
  Result<bool> value() {
    skip_space();
    if (at_ == end_) return bad("unexpected end of text");
    if (values_.size() + finished_ >= limits_.max_nodes) return limit("too many values");
    JsonValue v;
    const char c = *at_;
    if (c == '{' || c == '[') {
      if (frames_.size() >= limits_.max_depth) return limit("nested too deeply");
      ++at_;
      v.type_ = c == '{' ? JsonValue::Type::kObject : JsonValue::Type::kArray;
      values_.push(v);
      frames_.push({c == '{', values_.size(), keys_.size()});
      return false;
    }
    if (c == '"') {
      const string_view text = CAISSON_TRY(string());
      v.type_ = JsonValue::Type::kString;
      v.text_ = text.data();
      v.size_ = static_cast<u32>(text.size());
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      const string_view text = CAISSON_TRY(number());
      v.type_ = JsonValue::Type::kNumber;
      v.text_ = text.data();
      v.size_ = static_cast<u32>(text.size());
    } else if (literal("true")) {
      v.type_ = JsonValue::Type::kBool;
      v.bool_ = true;
    } else if (literal("false")) {
      v.type_ = JsonValue::Type::kBool;
    } else if (literal("null")) {
      v.type_ = JsonValue::Type::kNull;
    } else {
      return bad("expected a value");
    }
    values_.push(v);
    return true;
  }

  Status key() {
    if (at_ == end_ || *at_ != '"') return bad("expected a member name");
    keys_.push(CAISSON_TRY(string()));
    skip_space();
    if (at_ == end_ || *at_ != ':') return bad("expected ':'");
    ++at_;
    return ok();
  }

  // Moves the children of a closing container from the work stack to their final, consecutive place.
  void finish(const Frame& frame) {
    const size_t count = values_.size() - frame.first_value;
    JsonValue& owner = values_[frame.first_value - 1];
    owner.size_ = static_cast<u32>(count);
    if (count == 0) return;
    owner.child_ = static_cast<JsonValue*>(arena_.take(count * sizeof(JsonValue)));
    memcpy(const_cast<JsonValue*>(owner.child_), &values_[frame.first_value], count * sizeof(JsonValue));
    if (frame.object) {
      owner.keys_ = static_cast<string_view*>(arena_.take(count * sizeof(string_view)));
      memcpy(const_cast<string_view*>(owner.keys_), &keys_[frame.first_key], count * sizeof(string_view));
    }
    while (values_.size() > frame.first_value) values_.pop();
    while (keys_.size() > frame.first_key) keys_.pop();
    finished_ += count;
  }

  Result<string_view> string() {
    char* const start = ++at_;
    char* out = start;
    while (at_ != end_) {
      const u8 c = static_cast<u8>(*at_);
      if (c == '"') {
        ++at_;
        *out = '\0';
        return string_view(start, static_cast<size_t>(out - start));
      }
      if (c < 0x20) return bad("control character in a string");
      if (c == '\\') {
        out += CAISSON_TRY(escape(out));
        continue;
      }
      const u32 length = utf8_sequence(string_view(at_, static_cast<size_t>(end_ - at_)));
      if (length == 0) return bad("invalid UTF-8");
      for (u32 i = 0; i < length; ++i) *out++ = *at_++;
    }
    return bad("unterminated string");
  }

  // Reads an escape, writes what it stands for at `out`, returns the bytes written.
  Result<u32> escape(char* out) {
    ++at_;
    if (at_ == end_) return bad("unterminated string");
    const char kind = *at_;
    if (kind == 'u') {
      ++at_;
      u32 point = CAISSON_TRY(hex4());
      if (point == 0) return bad("NUL in a string");
      if (point >= 0xDC00 && point <= 0xDFFF) return bad("unpaired surrogate");
      if (point >= 0xD800 && point <= 0xDBFF) {
        if (end_ - at_ < 6 || at_[0] != '\\' || at_[1] != 'u') return bad("unpaired surrogate");
        at_ += 2;
        const u32 low = CAISSON_TRY(hex4());
        if (low < 0xDC00 || low > 0xDFFF) return bad("unpaired surrogate");
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
      }
      return utf8_encode(point, out);
    }
    constexpr string_view kNames = "\"\\/bfnrt";
    constexpr char kMeans[] = {'"', '\\', '/', '\b', '\f', '\n', '\r', '\t'};
    const size_t which = kNames.find(kind);
    if (which == string_view::npos) return bad("unknown escape");
    ++at_;
    *out = kMeans[which];
    return 1u;
  }

  Result<u32> hex4() {
    u32 value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = at_ == end_ ? '\0' : *at_;
      u32 digit = 0;
      if (c >= '0' && c <= '9')
        digit = static_cast<u32>(c - '0');
      else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
        digit = static_cast<u32>((c | 0x20) - 'a') + 10;
      else
        return bad("expected four hexadecimal digits");
      value = value << 4 | digit;
    }
    return value;
  }

  Result<string_view> number() {
    char* const start = at_;
    auto digits = [&] {
      char* const first = at_;
      while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
      return at_ - first;
    };
    if (*at_ == '-') ++at_;
    if (at_ != end_ && *at_ == '0')
      ++at_;
    else if (digits() == 0)
      return bad("malformed number");
    if (at_ != end_ && *at_ == '.') {
      ++at_;
      if (digits() == 0) return bad("malformed number");
    }
    if (at_ != end_ && (*at_ | 0x20) == 'e') {
      ++at_;
      if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
      if (digits() == 0) return bad("malformed number");
    }
    return string_view(start, static_cast<size_t>(at_ - start));
  }

  bool literal(string_view word) {
    if (part(string_view(at_, static_cast<size_t>(end_ - at_)), 0, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }

  Error bad(string_view why) const { return located(EINVAL, why); }
  Error limit(string_view why) const { return located(E2BIG, why); }
  Error located(int err, string_view why) const {
    u64 line = 1, column = 1;
    for (const char c : string_view(source_.data(), static_cast<size_t>(at_ - begin_))) {
      ++column;
      if (c == '\n') ++line, column = 1;
    }
    String text("line ");
    text.append_u64(line).append(" column ").append_u64(column).append(": ").append(why);
    return Error(err, "parse", text);
  }

  string_view source_;  // as given: the copy changes under the parser, positions are counted here
  const JsonLimits& limits_;
  JsonDocument::Arena& arena_;
  char* begin_ = nullptr;
  char* end_ = nullptr;
  char* at_ = nullptr;
  Vec<JsonValue> values_;
  Vec<string_view> keys_;
  Vec<Frame> frames_;
  size_t finished_ = 0;  // values already in their final place
};

Result<JsonDocument> JsonDocument::parse(string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    String why("document of ");
    why.append_u64(text.size()).append(" bytes, at most ").append_u64(limits.max_bytes).append(" are read");
    return Error(E2BIG, "parse", why);
  }
  JsonDocument doc;
  void* const storage = malloc(sizeof(Arena));
  if (storage == nullptr) abort();
  doc.arena_ = new (storage) Arena;
  JsonParser parser(text, limits, *doc.arena_);
  doc.root_ = CAISSON_TRY(parser.run());
  return doc;
}

JsonDocument::JsonDocument(JsonDocument&& o) noexcept
    : arena_(std::exchange(o.arena_, nullptr)), root_(std::exchange(o.root_, &JsonValue::absent())) {}

JsonDocument& JsonDocument::operator=(JsonDocument&& o) noexcept {
  std::swap(arena_, o.arena_);
  std::swap(root_, o.root_);
  return *this;
}

JsonDocument::~JsonDocument() {
  if (arena_ == nullptr) return;
  arena_->~Arena();
  free(arena_);
}

}  // namespace caisson
