#include "core/compile/property.h"

namespace caisson::compile {

namespace {

constexpr const char* kCall = "compile";

}  // namespace

string_view Property::name() const {
  if (depth_ == 0 || steps_[depth_ - 1].name == nullptr) return {};
  return {steps_[depth_ - 1].name, steps_[depth_ - 1].size};
}

String Property::path() const {
  String out;
  for (u32 i = 0; i < depth_; ++i) {
    const Step& step = steps_[i];
    if (step.name == nullptr) {
      out.append('[').append_u64(step.index).append(']');
      continue;
    }
    if (i != 0) out.append('.');
    append_shown(out, {step.name, step.size});
  }
  if (depth_ == 0) out.append("document");
  return out;
}

Property Property::operator[](string_view key) const {
  Property member = *this;
  member.value_ = &(*value_)[key];
  member.push({key.data(), static_cast<u32>(key.size()), 0});
  return member;
}

Property Property::at(u32 index) const {
  Property element = *this;
  element.value_ = &value_->at(index);
  const string_view key = value_->key_at(index);
  if (value_->is_object())
    element.push({key.data(), static_cast<u32>(key.size()), 0});
  else
    element.push({nullptr, 0, index});
  return element;
}

Status Property::object() const {
  if (present() && !value_->is_object()) return error(EINVAL, "must be an object");
  return ok();
}

Result<Property> Property::object(string_view key) const {
  Property member = (*this)[key];
  CAISSON_TRY(member.object());
  return member;
}

Result<u32> Property::list(u32 max) const {
  if (!present()) return 0u;
  if (!value_->is_array()) return error(EINVAL, "must be a list");
  if (value_->size() <= max) return value_->size();
  String reason;
  reason.append_u64(value_->size()).append(" entries, at most ").append_u64(max).append(" are accepted");
  return error(E2BIG, reason);
}

Result<u32> Property::map(u32 max) const {
  if (!present()) return 0u;
  CAISSON_TRY(object());
  if (value_->size() <= max) return value_->size();
  String reason;
  reason.append_u64(value_->size()).append(" entries, at most ").append_u64(max).append(" are accepted");
  return error(E2BIG, reason);
}

Result<string_view> Property::text(u32 max) const {
  if (!present()) return error(EINVAL, "is missing");
  if (!value_->is_string()) return error(EINVAL, "must be a string");
  const string_view text = value_->string_or({});
  if (text.size() <= max) return text;
  String reason;
  reason.append_u64(text.size()).append(" bytes, at most ").append_u64(max).append(" are accepted");
  return error(ENAMETOOLONG, reason);
}

Result<bool> Property::flag() const {
  if (!present()) return error(EINVAL, "is missing");
  if (value_->type() != JsonValue::Type::kBool) return error(EINVAL, "must be true or false");
  return value_->bool_or(false);
}

Result<i64> Property::integer(i64 min, i64 max) const {
  if (!present()) return error(EINVAL, "is missing");
  Result<i64> n = value_->i64_value({});
  if (n && *n >= min && *n <= max) return *n;
  if (value_->type() != JsonValue::Type::kNumber) return error(EINVAL, "must be an integer");
  String reason("is not an integer from ");
  reason.append_i64(min).append(" to ").append_i64(max);
  return invalid(value_->number_text(), reason);
}

Result<u64> Property::natural(u64 max) const {
  if (!present()) return error(EINVAL, "is missing");
  Result<u64> n = value_->u64_value({});
  if (n && *n <= max) return *n;
  if (value_->type() != JsonValue::Type::kNumber) return error(EINVAL, "must be an integer");
  String reason("is not an integer from 0 to ");
  reason.append_u64(max);
  return invalid(value_->number_text(), reason);
}

Result<string_view> Property::text_or(string_view fallback, u32 max) const {
  if (!present()) return fallback;
  return text(max);
}

Result<bool> Property::flag_or(bool fallback) const {
  if (!present()) return fallback;
  return flag();
}

Result<string_view> Property::absolute_path() const {
  const string_view path = CAISSON_TRY(text(kPathMax));
  CAISSON_TRY(check_path(*this, path));
  return path;
}

Error Property::error(int err, string_view reason) const {
  String text = path();
  text.append(": ").append(reason);
  return Error(err, kCall, text);
}

Error Property::invalid(string_view shown, string_view reason) const {
  String text("'");
  append_shown(text, shown);
  text.append("' ").append(reason);
  return error(EINVAL, text);
}

Status Property::refuse(string_view reason) const {
  if (!present()) return ok();
  return error(ENOTSUP, reason);
}

void append_shown(String& out, string_view text, size_t max) {
  const bool cut = text.size() > max;
  size_t end = cut ? max : text.size();
  while (cut && end != 0 && (static_cast<u8>(text[end]) & 0xC0) == 0x80) --end;  // never half a UTF-8 sequence
  for (const char c : part(text, 0, end)) out.append(static_cast<u8>(c) < 0x20 || c == 0x7f ? '?' : c);
  if (cut) out.append("...");
}

Status check_path(const Property& property, string_view path) {
  if (path.empty() || path[0] != '/') return property.invalid(path, "is not an absolute path");
  if (path.size() > kPathMax) return property.error(ENAMETOOLONG, "path of more than 4095 bytes");
  u32 component = 0;
  for (const char c : path) {
    if (c == '\0') return property.error(EINVAL, "path with a NUL");
    component = c == '/' ? 0 : component + 1;
    if (component > kNameMax) return property.error(ENAMETOOLONG, "path with a component of more than 255 bytes");
  }
  return ok();
}

}  // namespace caisson::compile
