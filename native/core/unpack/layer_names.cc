#include "core/unpack/layer_names.h"

#include "core/result.h"

namespace caisson {
namespace {

constexpr string_view kAufsPrefix = ".wh..wh.";
constexpr string_view kOpaqueName = ".wh..wh..opq";

}  // namespace

string_view take_component(string_view& rest) {
  while (!rest.empty() && rest.front() == '/') rest.remove_prefix(1);
  const size_t n = rest.find('/');
  const string_view component(rest.data(), n == string_view::npos ? rest.size() : n);
  rest.remove_prefix(component.size());
  return component;
}

LayerName classify(string_view path) {
  for (;;) {
    size_t slash = path.find('/');
    bool last = slash == string_view::npos;
    string_view component(path.data(), last ? path.size() : slash);
    if (last && component == kOpaqueName) return LayerName::kOpaque;
    // Hard link store and other records of aufs, kept in layers of old Docker versions.
    if (component.starts_with(kAufsPrefix)) return LayerName::kAufs;
    if (component.starts_with(kWhiteoutPrefix)) return last ? LayerName::kWhiteout : LayerName::kReserved;
    if (last) return LayerName::kPlain;
    path.remove_prefix(slash + 1);
  }
}

String both_names(string_view name, string_view target) {
  constexpr size_t kEach = (Error::kObjectMax - 16) / 2;
  String text;
  auto add = [&text](string_view part) {
    bool cut = part.size() > kEach;
    text.append(string_view(part.data(), cut ? kEach : part.size())).append(cut ? "..." : "");
  };
  add(name);
  text.append(" -> ");
  add(target);
  return text;
}

}  // namespace caisson
