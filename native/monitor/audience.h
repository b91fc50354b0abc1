// Who reads an output of a container as it comes, beside its log: clients that attached, each through a pipe.
//
// The container never waits for them. A client that leaves kBacklog bytes unread is dropped, and told so by the event
// "attach.dropped": what it has not read yet it can still read, then comes EOF.
#pragma once

#include "core/base.h"
#include "core/fd.h"
#include "core/result.h"
#include "monitor/box.h"
#include "monitor/handover.h"
#include "monitor/loop.h"

namespace caisson::monitor {

class Audience {
 public:
  static constexpr size_t kReadersMax = 128;
  static constexpr int kBacklog = 1 << 20;  // bytes; fs.pipe-max-size allows as much by default

  explicit Audience(Loop& loop) : loop_(loop) {}

  // Of the attachment with this number: it has not read what is there to read.
  Callback<u32> on_dropped;

  // A new reader, known by the number of its attachment; the end to read from is the caller's. Error EAGAIN:
  // kReadersMax are there.
  Result<Fd> add(u32 number);
  void tell(string_view bytes);
  // EOF for all.
  void end();

  void save(HandoverWriter& out, string_view key) const;
  void restore(const JsonValue& value);

 private:
  struct Reader {
    u32 number = 0;
    Fd pipe;
    Source source;  // tells when the other end is closed: no output may come for long
    void gone(u32) { over = true; }
    bool over = false;
  };
  Status watch(Box<Reader>&& reader);
  void sweep();

  Loop& loop_;
  Vec<Box<Reader>> readers_;
};

}  // namespace caisson::monitor
