// What enters a container, and what comes out of it: execs, attached clients, the terminal's size.
#include <fcntl.h>

#include "core/pty.h"
#include "monitor/container.h"

namespace caisson::monitor {

Status Container::begin_exec(Fd plan, Ticket ticket, u32 timeout_ms, u64 limit, const ExecStreams* streams) {
  if (execs_.size() >= kExecsMax) return Error(EAGAIN, "exec", "too many processes are executed in this container");
  auto exec = Box<Exec>::make(loop_, server_);
  exec->on_change.bind<&Container::something_ended>(this);
  if (external_) exec->drive_by(*external_, id_);
  u32 number = next_exec_++;
  if (streams != nullptr)
    CAISSON_TRY(exec->start(static_cast<Fd&&>(plan), task_.pidfd(), cgroup_, number, ticket, *streams));
  else
    CAISSON_TRY(exec->start(static_cast<Fd&&>(plan), task_.pidfd(), cgroup_, number, ticket, timeout_ms, limit));
  execs_.push(static_cast<Box<Exec>&&>(exec));
  return ok();
}

void Container::exec(Fd plan, Ticket ticket, u32 timeout_ms, u64 limit) {
  if (state_ != State::kRunning) return refuse_state(ticket, "exec in");
  if (limit > Exec::kLimitMax)
    return server_.fail(ticket, Failure::of(E2BIG, id_, "the limit of an exec's output is at most 16 MiB per stream"));
  if (auto begun = begin_exec(static_cast<Fd&&>(plan), ticket, timeout_ms, limit, nullptr); !begun)
    server_.fail(ticket, Failure::of(begun.error()));
}

void Container::exec_stream(Fd plan, Ticket ticket, ExecStreams streams) {
  if (state_ != State::kRunning) return refuse_state(ticket, "exec in");
  if (auto begun = begin_exec(static_cast<Fd&&>(plan), ticket, 0, 0, &streams); !begun)
    server_.fail(ticket, Failure::of(begun.error()));
}

Exec* Container::find_exec(u32 number) const {
  for (const auto& exec : execs_)
    if (number != 0 && exec->number() == number) return exec.get();
  return nullptr;
}

Result<Fd> Container::attach_input() {
  if (!input_) return Fd();
  const Fd& held = stdin_ ? stdin_ : stdout_.input();
  if (stdin_ && stdin_once_) return static_cast<Fd&&>(stdin_);
  if (!stdin_ && !stdout_.terminal()) return Fd();  // somebody has taken it
  Fd copy(fcntl(held.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return Error::last("fcntl", "standard input");
  return copy;
}

void Container::attach(Ticket ticket, ExecStreams streams) {
  if (state_ != State::kCreated && state_ != State::kStarting && state_ != State::kRunning)
    return refuse_state(ticket, "attach to");
  const u32 number = next_attach_++;
  Fd handed[3];
  if (streams.out && stdout_.open()) {
    auto reader = stdout_.audience().add(number);
    if (!reader) return server_.fail(ticket, Failure::of(reader.error()));
    handed[1] = reader.take();
  }
  if (streams.err && stderr_.open()) {
    auto reader = stderr_.audience().add(number);
    if (!reader) return server_.fail(ticket, Failure::of(reader.error()));
    handed[2] = reader.take();
  }
  if (streams.in) {
    auto input = attach_input();
    if (!input) return server_.fail(ticket, Failure::of(input.error()));
    handed[0] = input.take();
  }
  String text;
  JsonWriter json(text);
  json.begin_object();
  json.member("number", number);
  json.member("terminal", stdout_.terminal());
  json.member("stdin", static_cast<bool>(handed[0]));
  json.member("stdout", static_cast<bool>(handed[1]));
  json.member("stderr", static_cast<bool>(handed[2]));
  json.end_object();
  FdList fds;
  for (Fd& fd : handed)
    if (fd) fds.push(static_cast<Fd&&>(fd));
  server_.reply(ticket, text, static_cast<FdList&&>(fds));
}

void Container::attached_dropped(u32 number) { tell(FrameType::kEventAttachDropped, "number", number); }

void Container::resize(Ticket ticket, u16 rows, u16 columns) {
  if (!stdout_.terminal() || !stdout_.open())
    return server_.fail(ticket, Failure::of(ENOTTY, id_, "the container has no terminal"));
  if (auto resized = set_window_size(stdout_.input().get(), rows, columns); !resized)
    return server_.fail(ticket, Failure::of(resized.error()));
  server_.reply(ticket, "{}");
}

}  // namespace caisson::monitor
