// Channel: a SOCK_SEQPACKET connection on the event loop.
#include <fcntl.h>

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/instance.h"
#include "addon/job.h"
#include "addon/native_fd.h"
#include "core/packet_socket.h"
#include "monitor/protocol.h"

namespace caisson {
namespace {

constexpr size_t kQueueFrames = 64;
constexpr int kFramesPerTurn = 16;  // then the loop serves others; the poll is level-triggered
static_assert(kFrameFdsMax == kPacketFdsMax);

Napi::Object credentials_object(Napi::Env env, const PeerCredentials& peer) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("pid", peer.pid);
  object.Set("uid", peer.uid);
  object.Set("gid", peer.gid);
  return object;
}

class Channel : public Napi::ObjectWrap<Channel> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Channel",
                       {InstanceMethod<&Channel::send>("send"), InstanceMethod<&Channel::close>("close"),
                        InstanceMethod<&Channel::ref>("ref"), InstanceMethod<&Channel::unref>("unref"),
                        InstanceAccessor<&Channel::peer>("peer"),
                        InstanceAccessor<&Channel::on_frame, &Channel::set_on_frame>("onFrame"),
                        InstanceAccessor<&Channel::on_close, &Channel::set_on_close>("onClose")});
  }

  explicit Channel(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Channel>(info), context_(info.Env(), "caisson.Channel") {
    Fd* socket = info[0].As<Napi::External<Fd>>().Data();
    peer_ = value_of(info.Env(), peer_credentials(socket->get()));
    poll_ = Poll::create(info.Env(), socket->get(), this, &Channel::ready);
    socket_ = static_cast<Fd&&>(*socket);
    watch();
    Ref();  // alive while it is open
  }

 private:
  struct Pending {
    std::vector<u8> data;
    std::vector<Fd> fds;
  };

  // Reads only while somebody listens, so that no frame is lost between the connection and the first listener.
  void watch() {
    if (poll_ == nullptr) return;
    poll_->start(UV_DISCONNECT | (on_frame_.IsEmpty() ? 0 : UV_READABLE) | (queue_.empty() ? 0 : UV_WRITABLE));
  }

  // Returns whether it was open.
  bool end() {
    if (poll_ == nullptr) return false;
    poll_->close();
    poll_ = nullptr;
    socket_.reset();
    queue_.clear();
    Unref();
    return true;
  }

  static void ready(void* self, int status, int events) {
    Channel* channel = static_cast<Channel*>(self);
    Napi::HandleScope scope(channel->Env());
    [[maybe_unused]] Napi::Object alive = channel->Value();  // a callback may close the channel
    if (status < 0) return channel->fail(Error(-status, "uv_poll"));
    if ((events & UV_WRITABLE) != 0) channel->flush();
    if ((events & (UV_READABLE | UV_DISCONNECT)) != 0) channel->receive();
  }

  void flush() {
    while (poll_ != nullptr && !queue_.empty()) {
      Pending& next = queue_.front();
      int fds[kPacketFdsMax];
      for (size_t i = 0; i < next.fds.size(); ++i) fds[i] = next.fds[i].get();
      Status sent = send_packet(socket_.get(), next.data, {fds, next.fds.size()});
      if (!sent && sent.error().err == EAGAIN) return;
      // EPIPE is told by the end of the stream, after what the peer had still sent
      if (!sent && sent.error().err != EPIPE) return fail(sent.error());
      queue_.pop_front();
    }
    watch();
  }

  void receive() {
    u8 buffer[kFrameMax];
    for (int i = 0; i < kFramesPerTurn && poll_ != nullptr; ++i) {
      // The peer has gone and nobody listens: what it sent last has no receiver.
      if (on_frame_.IsEmpty()) return fail(std::nullopt);
      Result<Packet> packet = receive_packet(socket_.get(), buffer);
      if (!packet && packet.error().err == EAGAIN) return;
      if (!packet && packet.error().err == ECONNRESET) return fail(std::nullopt);
      if (!packet) return fail(packet.error());
      if (packet->size == 0) return fail(std::nullopt);
      Napi::Env env = Env();
      from_event_loop(env, context_, [&] {
        Napi::Array fds = Napi::Array::New(env, packet->fd_count);
        for (u32 n = 0; n < packet->fd_count; ++n) fds.Set(n, native_fd(env, static_cast<Fd&&>(packet->fds[n])));
        on_frame_.Value().Call(Value(), {Napi::Buffer<u8>::Copy(env, buffer, packet->size), fds});
      });
    }
  }

  void fail(std::optional<Error> error) {
    Napi::HandleScope scope(Env());
    Napi::Object alive = Value();
    if (!end() || on_close_.IsEmpty()) return;
    Napi::Env env = Env();
    from_event_loop(env, context_, [&] {
      Napi::Value reason = error ? make_error(env, *error).Value() : env.Null();
      on_close_.Value().Call(alive, {reason});
    });
  }

  void send(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    span<u8> frame = buffer_argument(info[0], "frame");
    std::vector<int> fds = fds_argument(info[1], "fds", kPacketFdsMax);
    if (poll_ == nullptr) throw make_error(env, Error(EPIPE, "sendmsg", "the channel is closed"));
    if (frame.empty() || frame.size() > kFrameMax) throw make_error(env, Error(EMSGSIZE, "sendmsg"));
    if (queue_.empty()) {
      Status sent = send_packet(socket_.get(), frame, fds);
      if (sent) return;
      if (sent.error().err != EAGAIN) throw make_error(env, sent.error());
    }
    if (queue_.size() == kQueueFrames) throw make_error(env, Error(EAGAIN, "sendmsg", "the peer does not read"));
    Pending pending;
    pending.data.assign(frame.begin(), frame.end());
    for (int fd : fds) {
      // The caller may close its own as soon as send returns.
      Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
      if (!copy) throw make_error(env, Error::last("fcntl"));
      pending.fds.push_back(static_cast<Fd&&>(copy));
    }
    queue_.push_back(std::move(pending));
    watch();
  }

  void close(const Napi::CallbackInfo&) { end(); }
  void ref(const Napi::CallbackInfo&) {
    if (poll_ != nullptr) poll_->ref();
  }
  void unref(const Napi::CallbackInfo&) {
    if (poll_ != nullptr) poll_->unref();
  }
  Napi::Value peer(const Napi::CallbackInfo& info) { return credentials_object(info.Env(), peer_); }

  static Napi::Value listener(Napi::Env env, const Napi::FunctionReference& reference) {
    return reference.IsEmpty() ? env.Null() : reference.Value();
  }
  static void set_listener(Napi::FunctionReference& reference, const Napi::Value& value) {
    if (value.IsFunction())
      reference = Napi::Persistent(value.As<Napi::Function>());
    else if (value.IsNull() || value.IsUndefined())
      reference.Reset();
    else
      throw Napi::TypeError::New(value.Env(), "a listener is a function or null");
  }
  Napi::Value on_frame(const Napi::CallbackInfo& info) { return listener(info.Env(), on_frame_); }
  Napi::Value on_close(const Napi::CallbackInfo& info) { return listener(info.Env(), on_close_); }
  void set_on_frame(const Napi::CallbackInfo&, const Napi::Value& value) {
    set_listener(on_frame_, value);
    watch();
  }
  void set_on_close(const Napi::CallbackInfo&, const Napi::Value& value) { set_listener(on_close_, value); }

  Napi::AsyncContext context_;
  Napi::FunctionReference on_frame_;
  Napi::FunctionReference on_close_;
  Poll* poll_ = nullptr;
  Fd socket_;
  PeerCredentials peer_;
  std::deque<Pending> queue_;  // frames that the socket did not take
};

Napi::Value make_channel(Napi::Env env, Fd socket) {
  return Instance::of(env).channel.New({Napi::External<Fd>::New(env, &socket)});
}

Napi::Value connect_channel(const Napi::CallbackInfo& info) {
  int dir = fd_argument(info[0], "dirfd");
  std::string name = string_argument(info[1], "name");
  return make_channel(info.Env(), value_of(info.Env(), connect_packet_socket(dir, name.c_str())));
}

Napi::Value channel_pair(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  PacketPair pair = value_of(env, packet_socket_pair());
  Napi::Object result = Napi::Object::New(env);
  result.Set("channel", make_channel(env, static_cast<Fd&&>(pair.ours)));
  result.Set("peer", native_fd(env, static_cast<Fd&&>(pair.theirs)));
  return result;
}

// A channel over a copy of a connected descriptor.
Napi::Value channel_from(const Napi::CallbackInfo& info) {
  Fd copy(fcntl(fd_argument(info[0], "fd"), F_DUPFD_CLOEXEC, 3));
  if (!copy) throw make_error(info.Env(), Error::last("fcntl"));
  return make_channel(info.Env(), static_cast<Fd&&>(copy));
}

Napi::Value credentials(const Napi::CallbackInfo& info) {
  return credentials_object(info.Env(), value_of(info.Env(), peer_credentials(fd_argument(info[0], "fd"))));
}

}  // namespace

void init_channel(Napi::Env env, Napi::Object exports) {
  Instance::of(env).channel = Napi::Persistent(Channel::define(env));
  exports.Set("connectChannel", Napi::Function::New(env, connect_channel, "connectChannel"));
  exports.Set("channelPair", Napi::Function::New(env, channel_pair, "channelPair"));
  exports.Set("channelFrom", Napi::Function::New(env, channel_from, "channelFrom"));
  exports.Set("peerCredentials", Napi::Function::New(env, credentials, "peerCredentials"));
}

}  // namespace caisson
