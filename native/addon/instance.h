// What the addon keeps per environment (the main thread, or a worker): constructors and live libuv handles. No static
// state, so that several environments can load the addon at once.
#pragma once

#include <napi.h>
#include <uv.h>

#include "core/base.h"

namespace caisson {

class Instance;

// A uv_poll_t that outlives its owner: libuv frees a handle only after its close callback.
class Poll {
 public:
  using Callback = void (*)(void* owner, int status, int events);

  // Throws Napi::Error when libuv refuses the descriptor. `fd` must stay open until close().
  static Poll* create(Napi::Env env, int fd, void* owner, Callback callback);
  void start(int events);  // of uv_poll_event
  void ref() { uv_ref(reinterpret_cast<uv_handle_t*>(&uv_)); }
  void unref() { uv_unref(reinterpret_cast<uv_handle_t*>(&uv_)); }
  // No callback comes after this; the descriptor may be closed at once.
  void close();

 private:
  friend class Instance;
  Instance* instance_ = nullptr;
  void* owner_ = nullptr;
  Callback callback_ = nullptr;
  Poll* next_ = nullptr;
  Poll* previous_ = nullptr;
  bool closing_ = false;
  uv_poll_t uv_{};
};

class Instance {
 public:
  // Registers itself as the instance data of the environment.
  explicit Instance(Napi::Env env);
  static Instance& of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

  Napi::FunctionReference native_fd;
  Napi::FunctionReference child;
  Napi::FunctionReference channel;

 private:
  friend class Poll;
  void shut_down(napi_async_cleanup_hook_handle hook);
  void closed(Poll* poll);

  uv_loop_t* loop_ = nullptr;
  Poll* polls_ = nullptr;
  bool ending_ = false;
  napi_async_cleanup_hook_handle ending_hook_ = nullptr;
};

// Runs `body` as Node runs a callback from its event loop: async hooks, microtasks and process.nextTick afterwards.
// What it throws becomes an uncaughtException.
template <typename Body>
void from_event_loop(Napi::Env env, const Napi::AsyncContext& context, Body body) {
  Napi::HandleScope handles(env);
  Napi::CallbackScope scope(env, context);
  try {
    body();
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

}  // namespace caisson
