// What a monitor gives to the program that replaces it (reexec): one JSON document in a memfd, and its descriptors,
// which stay open under their numbers. A reader ignores members it does not know and has a default for those it misses.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson::monitor {

inline constexpr u32 kHandoverVersion = 1;
inline constexpr u32 kHandoverMax = 4u << 20;

class HandoverWriter {
 public:
  HandoverWriter() : json_(text_) {}
  JsonWriter& json() { return json_; }
  // "key": number, and the descriptor will survive the exec; an empty one is left out.
  void fd(string_view key, const Fd& fd);
  void bytes(string_view key, string_view raw);  // as hexadecimal: output of a container need not be text
  void time(string_view key, i64 nanoseconds);

  string_view text() const { return text_; }
  span<const int> kept() const { return kept_; }

 private:
  String text_;
  JsonWriter json_;
  Vec<int> kept_;
};

// Takes over a descriptor that the old program left: close-on-exec again. Empty where the member is absent or the
// number is no open descriptor.
Fd inherited_fd(const JsonValue& value);
String inherited_bytes(const JsonValue& value);
i64 inherited_time(const JsonValue& value);

// Sets or clears FD_CLOEXEC on all of them.
void set_close_on_exec(span<const int> fds, bool on);

// A memfd that holds `text`, close-on-exec; and its contents read back, bounded by kHandoverMax.
Result<Fd> write_handover(string_view text);
Result<JsonDocument> read_handover(int memfd);

}  // namespace caisson::monitor
