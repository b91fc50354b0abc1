// connectSocket(): connect(2) of a socket that a monitor has handed out, on the event loop: who listens there may never
// answer, and no thread waits for it.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <utility>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/instance.h"
#include "addon/job.h"

namespace caisson {
namespace {

// Lives until it has settled, whoever holds it.
class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  Attempt(Napi::Env env, Fd socket)
      : env_(env),
        context_(env, "caisson.connectSocket"),
        deferred_(Napi::Promise::Deferred::New(env)),
        socket_(static_cast<Fd&&>(socket)) {}

  Napi::Promise begin(const sockaddr* address, socklen_t size) {
    if (connect(socket_.get(), address, size) == 0) {
      deferred_.Resolve(env_.Undefined());
    } else if (errno != EINPROGRESS) {
      deferred_.Reject(make_error(env_, Error::last("connect")).Value());
    } else {
      poll_ = Poll::create(env_, socket_.get(), this, &Attempt::ready);
      poll_->start(UV_WRITABLE);
      self_ = shared_from_this();
    }
    return deferred_.Promise();
  }

  // After its end nothing happens.
  void settle(int err) {
    if (poll_ == nullptr) return;
    const std::shared_ptr<Attempt> self = std::move(self_);
    poll_->close();
    poll_ = nullptr;
    socket_.reset();
    from_event_loop(env_, context_, [&] {
      if (err == 0)
        deferred_.Resolve(env_.Undefined());
      else
        deferred_.Reject(make_error(env_, Error(err, "connect")).Value());
    });
  }

 private:
  static void ready(void* self, int, int) {
    auto* const attempt = static_cast<Attempt*>(self);
    int err = 0;
    socklen_t size = sizeof err;
    if (getsockopt(attempt->socket_.get(), SOL_SOCKET, SO_ERROR, &err, &size) != 0) err = errno;
    attempt->settle(err);
  }

  Napi::Env env_;
  Napi::AsyncContext context_;
  Napi::Promise::Deferred deferred_;
  Fd socket_;
  Poll* poll_ = nullptr;
  std::shared_ptr<Attempt> self_;
};

// connectSocket(fd, address, port): { done, abort() }
Napi::Value connect_socket(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Fd socket = fd_copy_argument(info[0], "fd");
  const std::string host = string_argument(info[1], "address");
  const auto port = htons(static_cast<u16>(integer_argument(info[2], "port", 1, 65535)));
  sockaddr_in four{};
  sockaddr_in6 six{};
  const sockaddr* address = reinterpret_cast<sockaddr*>(&four);
  socklen_t size = sizeof four;
  if (inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = port;
  } else if (inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = port;
    address = reinterpret_cast<sockaddr*>(&six);
    size = sizeof six;
  } else {
    throw Napi::TypeError::New(env, "argument 'address' must be an IP address");
  }
  const int flags = fcntl(socket.get(), F_GETFL);
  if (flags < 0 || fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0) throw make_error(env, Error::last("fcntl"));

  auto attempt = std::make_shared<Attempt>(env, static_cast<Fd&&>(socket));
  Napi::Object handle = Napi::Object::New(env);
  handle.Set("done", attempt->begin(address, size));
  handle.Set("abort", Napi::Function::New(
                          env, [attempt](const Napi::CallbackInfo&) { attempt->settle(ECANCELED); }, "abort"));
  return handle;
}

}  // namespace

void init_connect(Napi::Env env, Napi::Object exports) {
  exports.Set("connectSocket", Napi::Function::New(env, connect_socket, "connectSocket"));
}

}  // namespace caisson
