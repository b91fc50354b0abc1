// Whatever parses must be written as text that parses to the same text; the writer must always produce valid JSON.
#include "core/json.h"

using namespace caisson;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  const string_view text(reinterpret_cast<const char*>(data), size);
  JsonLimits limits{.max_bytes = 1 << 16, .max_depth = 32, .max_nodes = 4096};
  auto doc = JsonDocument::parse(text, limits);
  if (doc) {
    String first, second;
    JsonWriter(first).value(doc->root());
    // Escapes can make the second text longer than the first.
    auto copy = JsonDocument::parse(first, {.max_bytes = 1 << 20, .max_depth = 32, .max_nodes = 4096});
    if (!copy) abort();
    JsonWriter(second).value(copy->root());
    if (first.view() != second.view()) abort();
  }
  String quoted;
  JsonWriter(quoted).value(text);
  const bool nul = text.find('\0') != string_view::npos;
  if (size < (1 << 16) && static_cast<bool>(JsonDocument::parse(quoted)) == nul) abort();
  return 0;
}
