// Fuzz target of the tar reader: no input breaks it, and how the input is cut changes nothing.
#include "core/unpack/tar_reader.h"
#include "tar_builder.h"

using namespace caisson;
using tar::Reader;

namespace {

struct Digest {
  u64 value = 14695981039346656037u;  // FNV-1a
  void add(const void* data, size_t n) {
    const u8* bytes = static_cast<const u8*>(data);
    for (size_t i = 0; i < n; ++i) value = (value ^ bytes[i]) * 1099511628211u;
  }
  void add(u64 number) { add(&number, sizeof number); }
  void add(string_view text) {
    add(text.size());
    add(text.data(), text.size());
  }
};

u64 read_all(span<const u8> bytes, size_t step) {
  tar::Limits limits;
  limits.max_entries = 1000;
  limits.max_bytes = 1 << 20;
  limits.max_pax = 1 << 16;
  Reader reader(limits);
  Digest digest;
  u64 stored = 0;
  u64 data_end = 0;
  while (!bytes.empty()) {
    span<const u8> piece = bytes.first(step < bytes.size() ? step : bytes.size());
    bytes = bytes.subspan(piece.size());
    for (;;) {
      Result<Reader::Event> event = reader.next(piece);
      if (!event) {
        digest.add(event.error().err);
        digest.add(string_view(event.error().call));
        return digest.value;
      }
      if (*event == Reader::Event::kMore) {
        if (!piece.empty()) __builtin_trap();
        break;
      }
      const tar::Entry& entry = reader.entry();
      if (*event == Reader::Event::kEntry) {
        if (entry.path.empty() || entry.path.size() > limits.max_name + 512) __builtin_trap();
        if (entry.mode > 07777 || entry.mtime_nsec >= 1'000'000'000 || entry.uid == UINT32_MAX) __builtin_trap();
        digest.add(static_cast<u64>(entry.type));
        digest.add(entry.path);
        digest.add(entry.link);
        digest.add(entry.size);
        digest.add(entry.xattrs.size());
        stored = data_end = 0;
      } else if (*event == Reader::Event::kData) {
        if (reader.data().empty() || reader.offset() < data_end) __builtin_trap();
        data_end = reader.offset() + reader.data().size();
        if (data_end > entry.size) __builtin_trap();
        stored += reader.data().size();
        digest.add(reader.data().data(), reader.data().size());
      } else if (stored != entry.stored) {
        __builtin_trap();
      }
    }
  }
  digest.add(reader.finish() ? 0 : 1);
  return digest.value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  // Blocks that look like headers get the checksum they need: a fuzzer does not find it, and stays at the door.
  String input(string_view(reinterpret_cast<const char*>(data), size));
  for (size_t at = 0; at + tar::kBlock <= size; at += tar::kBlock) {
    u8* block = reinterpret_cast<u8*>(const_cast<char*>(input.c_str())) + at;
    if (memcmp(block + tar::kMagic.at, "ustar", 5) == 0) caisson::test::TarBuilder::seal(block);
  }
  span<const u8> bytes(reinterpret_cast<const u8*>(input.c_str()), size);
  u64 whole = read_all(bytes, SIZE_MAX);
  if (read_all(bytes, 1) != whole || read_all(bytes, 509) != whole) __builtin_trap();
  return 0;
}
