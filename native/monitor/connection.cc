#include "monitor/connection.h"

#include "monitor/report.h"

namespace caisson::monitor {

Status Connection::start() {
  source_.on_events.bind<&Connection::on_events>(this);
  return source_.watch(loop_, socket_.get(), EPOLLIN);
}

void Connection::on_events(u32 events) {
  if ((events & EPOLLOUT) != 0) flush();
  if (alive() && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive();
}

void Connection::receive() {
  // A few frames at a time: one busy client does not keep the loop from the containers.
  for (int i = 0; i < 8 && alive(); ++i) {
    Frame frame;
    auto got = receive_frame(socket_.get(), frame);
    if (!got) {
      if (got.error().err == EAGAIN) return;
      if (got.error().err != ECONNRESET)
        report(Level::kWarn, "a client of the control socket is dropped", {}, &got.error());
      return close();
    }
    if (!*got) return close();
    if ((frame.header.flags & (kFlagReply | kFlagEvent | kFlagError)) != 0 || frame.header.request == 0) {
      Error error(EPROTO, "receive", "not a request");
      report(Level::kWarn, "a client of the control socket is dropped", {}, &error);
      return close();
    }
    on_request(*this, frame);
  }
}

void Connection::send(Frame&& frame) {
  if (!alive()) return;
  if (auto fitted = fit_payload(frame); !fitted) {
    report(Level::kError, "a frame cannot be sent; its client is dropped", {}, &fitted.error());
    return close();
  }
  if (queue_.empty()) {
    auto sent = send_frame(socket_.get(), frame);
    if (sent) return;
    if (sent.error().err != EAGAIN) return close();
  }
  size_t size = sizeof(FrameHeader) + frame.payload.size();
  if (queue_.size() >= kQueueFrames || queued_bytes_ + size > kQueueBytes) {
    Error error(ENOBUFS, "send", "queue");
    report(Level::kWarn, "a client of the control socket does not read; it is dropped", {}, &error);
    return close();
  }
  queued_bytes_ += size;
  queue_.push(static_cast<Frame&&>(frame));
  if (!source_.change(EPOLLIN | EPOLLOUT)) close();
}

void Connection::flush() {
  size_t sent = 0;
  while (alive() && sent < queue_.size()) {
    auto status = send_frame(socket_.get(), queue_[sent]);
    if (!status) {
      if (status.error().err != EAGAIN) return close();
      break;
    }
    queued_bytes_ -= sizeof(FrameHeader) + queue_[sent].payload.size();
    ++sent;
  }
  if (sent == 0) return;
  Vec<Frame> rest;
  for (size_t i = sent; i < queue_.size(); ++i) rest.push(static_cast<Frame&&>(queue_[i]));
  queue_ = static_cast<Vec<Frame>&&>(rest);
  if (queue_.empty() && !source_.change(EPOLLIN)) close();
}

void Connection::close() {
  if (!alive()) return;
  source_.unwatch();
  socket_.reset();
  queue_.clear();
  on_close(*this);
}

void Connection::save(HandoverWriter& out) const {
  out.json().begin_object();
  out.json().member("id", id_);
  out.json().member("greeted", greeted_);
  out.fd("socket", socket_);
  out.json().end_object();
}

}  // namespace caisson::monitor
