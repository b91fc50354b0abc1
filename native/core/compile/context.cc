#include "core/compile/context.h"

#include "core/path.h"

namespace caisson::compile {

namespace {

constexpr size_t kWarningsMax = 64;

}  // namespace

void Context::warn(const Property& property, string_view text) {
  if (warnings.size() > kWarningsMax) return;
  if (warnings.size() == kWarningsMax) {
    warnings.push(String("more warnings are left out"));
    return;
  }
  String warning = property.path();
  warning.append(": ").append(text);
  warnings.push(static_cast<String&&>(warning));
}

Result<String> host_path(const Context& context, const Property& property) {
  const string_view given = CAISSON_TRY(property.text(kPathMax));
  String path;
  if (!given.empty() && given[0] != '/' && !context.bundle.empty()) path.append(context.bundle).append('/');
  path.append(given);
  CAISSON_TRY(check_path(property, path));
  return path;
}

Result<String> container_path(const Property& property) {
  const string_view path = CAISSON_TRY(property.text(kPathMax));
  if (path.empty()) return property.error(EINVAL, "is empty");
  String clean;
  append_clean_path(clean, path);
  if (clean.empty()) clean.append('/');
  CAISSON_TRY(check_path(property, clean));
  return clean;
}

bool path_within(string_view path, string_view above) {
  if (above == "/") return true;
  return path.starts_with(above) && (path.size() == above.size() || path[above.size()] == '/');
}

}  // namespace caisson::compile
