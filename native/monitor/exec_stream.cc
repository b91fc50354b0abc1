// An exec whose standard streams are handed out.
#include <unistd.h>

#include "monitor/birth.h"
#include "monitor/exec.h"
#include "monitor/report.h"

namespace caisson::monitor {

namespace {
constexpr string_view kStreamNames[] = {"stdin", "stdout", "stderr"};
constexpr string_view kSavedNames[] = {"streamIn", "streamOut", "streamErr"};  // the others are the captures
}  // namespace

Status Exec::start(Fd plan, int init_pidfd, const Cgroup& container, u32 number, Ticket ticket, ExecStreams streams) {
  bind();
  const bool wanted[] = {streams.in, streams.out, streams.err};
  Fd theirs[3];
  int stdio[] = {-1, -1, -1};
  for (int i = 0; i < 3; ++i) {
    if (!wanted[i]) continue;
    Pipe pipe = CAISSON_TRY(make_pipe());
    theirs[i] = static_cast<Fd&&>(i == 0 ? pipe.read : pipe.write);
    streams_[i] = static_cast<Fd&&>(i == 0 ? pipe.write : pipe.read);
    stdio[i] = theirs[i].get();
  }
  number_ = number;
  client_ = ticket.connection;
  auto launched = launch(static_cast<Fd&&>(plan), init_pidfd, container, number, ticket, stdio);
  if (!launched) number_ = 0;
  return launched;
}

void Exec::hand_out() {
  String text;
  JsonWriter json(text);
  json.begin_object();
  json.member("number", number_);
  json.member("terminal", terminal_);
  for (int i = 0; i < 3; ++i) json.member(kStreamNames[i], static_cast<bool>(streams_[i]));
  json.end_object();
  FdList fds;
  for (Fd& stream : streams_)
    if (stream) fds.push(static_cast<Fd&&>(stream));
  server_.reply(std::exchange(ticket_, Ticket()), text, static_cast<FdList&&>(fds));
}

void Exec::wait(Ticket ticket) {
  if (wait_ticket_)
    return server_.fail(ticket, Failure::of(EBUSY, {}, "somebody waits for the end of this exec already"));
  wait_ticket_ = ticket;
  if (exited_) answer_wait();
}

void Exec::answer_wait() {
  if (ticket_) {
    // Killed before it came to execute anything.
    number_ = 0;
    for (Fd& stream : streams_) stream.reset();
    server_.fail(std::exchange(ticket_, Ticket()),
                 Failure::of(ESRCH, {}, "the process was killed before it could execute"));
  } else if (wait_ticket_) {
    number_ = 0;
    String text;
    JsonWriter json(text);
    json.begin_object();
    json.member("exitCode", status_.code);
    json.member("signal", status_.signal);
    json.end_object();
    server_.reply(std::exchange(wait_ticket_, Ticket()), text);
  }
  on_change();
}

void Exec::kill() {
  killed_ = true;
  kill_group();
}

void Exec::look_for_client() {
  if (number_ == 0 || server_.has(client_)) return;
  if (!std::exchange(killed_, true) && !exited_) kill_group();
  if (!exited_) return;
  number_ = 0;
  ticket_ = wait_ticket_ = Ticket();
}

void Exec::save_streams(HandoverWriter& out) const {
  out.json().member("number", number_);
  out.json().member("client", client_);
  out.json().member("killed", killed_);
  out.json().member("terminal", terminal_);
  wait_ticket_.save(out, "waitTicket");
  for (int i = 0; i < 3; ++i) out.fd(kSavedNames[i], streams_[i]);
}

void Exec::restore_streams(const JsonValue& value) {
  number_ = static_cast<u32>(value["number"].u64_or(0));
  client_ = static_cast<u32>(value["client"].u64_or(0));
  killed_ = value["killed"].bool_or(false);
  terminal_ = value["terminal"].bool_or(false);
  wait_ticket_ = Ticket::restore(value["waitTicket"]);
  for (int i = 0; i < 3; ++i) streams_[i] = inherited_fd(value[kSavedNames[i]]);
}

}  // namespace caisson::monitor
