#include "monitor/audience.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "monitor/birth.h"
#include "monitor/report.h"

namespace caisson::monitor {

Result<Fd> Audience::add(u32 number) {
  sweep();
  if (readers_.size() >= kReadersMax) return Error(EAGAIN, "attach", "as many clients as there may be are attached");
  Pipe pipe = CAISSON_TRY(make_pipe());
  // Best effort: a host may allow less, and the client is dropped sooner.
  if (fcntl(pipe.write.get(), F_SETPIPE_SZ, kBacklog) < 0 && errno != EPERM)
    return Error::last("fcntl", "F_SETPIPE_SZ");
  if (fcntl(pipe.write.get(), F_SETFL, O_NONBLOCK) != 0) return Error::last("fcntl", "F_SETFL");
  auto reader = Box<Reader>::make();
  reader->number = number;
  reader->pipe = static_cast<Fd&&>(pipe.write);
  CAISSON_TRY(watch(static_cast<Box<Reader>&&>(reader)));
  return static_cast<Fd&&>(pipe.read);
}

Status Audience::watch(Box<Reader>&& reader) {
  reader->source.on_events.bind<&Reader::gone>(reader.get());
  // EPOLLERR is always told. Edge-triggered, since the object is freed at the next occasion only.
  CAISSON_TRY(reader->source.watch(loop_, reader->pipe.get(), EPOLLET));
  readers_.push(static_cast<Box<Reader>&&>(reader));
  return ok();
}

void Audience::tell(string_view bytes) {
  if (readers_.empty()) return;
  for (auto& reader : readers_) {
    string_view left = bytes;
    while (!reader->over && !left.empty()) {
      ssize_t n = write(reader->pipe.get(), left.data(), left.size());
      if (n > 0) {
        left.remove_prefix(static_cast<size_t>(n));
        continue;
      }
      if (errno == EINTR) continue;
      reader->over = true;
      if (errno == EAGAIN) on_dropped(reader->number);
    }
  }
  sweep();
}

void Audience::end() { readers_.clear(); }

void Audience::sweep() {
  for (size_t i = readers_.size(); i-- > 0;)
    if (readers_[i]->over) readers_.swap_remove(i);
}

void Audience::save(HandoverWriter& out, string_view key) const {
  if (readers_.empty()) return;
  out.json().key(key);
  out.json().begin_array();
  for (const auto& reader : readers_) {
    if (reader->over) continue;
    out.json().begin_object();
    out.json().member("number", reader->number);
    out.fd("pipe", reader->pipe);
    out.json().end_object();
  }
  out.json().end_array();
}

void Audience::restore(const JsonValue& value) {
  for (u32 i = 0; i < value.size() && i < kReadersMax; ++i) {
    auto reader = Box<Reader>::make();
    reader->number = static_cast<u32>(value.at(i)["number"].u64_or(0));
    reader->pipe = inherited_fd(value.at(i)["pipe"]);
    if (!reader->pipe) continue;
    if (auto watched = watch(static_cast<Box<Reader>&&>(reader)); !watched)
      report(Level::kError, "a client's output cannot be watched; it is dropped", {}, &watched.error());
  }
}

}  // namespace caisson::monitor
