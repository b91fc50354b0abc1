// Messages from a hostile peer: whatever parses can be read by its signature to the end, and nothing is read beyond it.
#include "core/dbus.h"

using namespace caisson;

namespace {

// Reads every value by the typed readers that the client uses, where their type is next, and skips the others.
void read_all(DbusReader reader, u32 depth) {
  if (depth > 4) return;
  while (reader.more()) {
    DbusReader before = reader;
    if (auto nested = reader.array()) {
      read_all(*nested, depth + 1);
      continue;
    }
    reader = before;
    if (auto nested = reader.variant()) {
      read_all(*nested, depth + 1);
      continue;
    }
    reader = before;
    if (auto text = reader.string()) {
      if (text->find('\0') != text->npos) abort();
      continue;
    }
    reader = before;
    if (!reader.skip()) return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  const span<const u8> bytes(data, size);
  if (size >= 16) {
    auto announced = dbus_message_size(bytes.subspan(0, 16));
    if (announced && *announced > kDbusMessageMax) abort();
  }
  auto message = parse_dbus_message(bytes);
  if (message) {
    if (message->body.size() > size) abort();
    read_all(message->reader(), 0);
  }
  const Vec<String> paths = dbus_address_paths({reinterpret_cast<const char*>(data), size});
  for (const String& path : paths)
    if (!path.view().starts_with('/') || path.view().find('\0') != string_view::npos) abort();
  return 0;
}
