// A property of an input document and where it stands: the readers of the compiler, whose every error names the
// property as a person would write it ("linux.resources.memory.limit") and shows the value, bounded and printable.
#pragma once

#include "core/base.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::compile {

inline constexpr u32 kPathMax = 4095;  // PATH_MAX without its NUL
inline constexpr u32 kNameMax = 255;   // NAME_MAX

class Property {
 public:
  // A document. Its own properties stand at the top when `name` is empty.
  explicit Property(const JsonValue& value, string_view name = {}) : value_(&value) {
    if (!name.empty()) push({name.data(), static_cast<u32>(name.size()), 0});
  }

  const JsonValue& value() const { return *value_; }
  // null counts as absent, as it does for Go's readers of the same documents.
  bool present() const { return value_->present(); }
  // Name of the member, or empty for an element of a list.
  string_view name() const;
  // "mounts[3].destination"
  String path() const;

  // Members and elements. Whoever walks has checked the type with object(), list() or map() below.
  Property operator[](string_view key) const;
  Property at(u32 index) const;

  // EINVAL unless absent or an object.
  Status object() const;
  // The member `key` of this object, itself absent or an object.
  Result<Property> object(string_view key) const;
  // Elements of a list or members of a map; absent is 0. EINVAL on another type, E2BIG above `max`.
  Result<u32> list(u32 max) const;
  Result<u32> map(u32 max) const;

  // Scalars. EINVAL when absent, of another type, or out of range.
  Result<string_view> text(u32 max) const;
  Result<bool> flag() const;
  Result<i64> integer(i64 min, i64 max) const;
  Result<u64> natural(u64 max) const;

  // Scalars that may be absent.
  Result<string_view> text_or(string_view fallback, u32 max) const;
  Result<bool> flag_or(bool fallback) const;

  // An absolute path of at most kPathMax bytes whose components have at most kNameMax. `..` is allowed: paths are
  // resolved with RESOLVE_IN_ROOT, or are the host administrator's own.
  Result<string_view> absolute_path() const;

  // "path: reason"
  Error error(int err, string_view reason) const;
  // "path: 'shown' reason"; EINVAL
  Error invalid(string_view shown, string_view reason) const;
  // ENOTSUP if present: this build cannot honour the property.
  Status refuse(string_view reason) const;

 private:
  static constexpr u32 kDepth = 8;
  struct Step {
    const char* name = nullptr;  // member; null for an element
    u32 size = 0;
    u32 index = 0;
  };
  void push(Step step) {
    if (depth_ < kDepth) steps_[depth_++] = step;
  }

  const JsonValue* value_;
  u32 depth_ = 0;
  Step steps_[kDepth];
};

// Appends text from outside to a message: at most `max` bytes, control characters as '?', cut text marked by "...".
void append_shown(String& out, string_view text, size_t max = 64);

// EINVAL, worded by `property`, unless `path` is a path as of Property::absolute_path.
Status check_path(const Property& property, string_view path);

}  // namespace caisson::compile
