#include "addon/instance.h"

#include "addon/error.h"

namespace caisson {

Poll* Poll::create(Napi::Env env, int fd, void* owner, Callback callback) {
  Instance& instance = Instance::of(env);
  if (instance.ending_) throw make_error(env, Error(ECANCELED, "uv_poll_init", "the environment is ending"));
  Poll* poll = new Poll;
  int status = uv_poll_init(instance.loop_, &poll->uv_, fd);
  if (status != 0) {
    delete poll;
    throw make_error(env, Error(-status, "uv_poll_init"));
  }
  poll->uv_.data = poll;
  poll->instance_ = &instance;
  poll->owner_ = owner;
  poll->callback_ = callback;
  poll->next_ = instance.polls_;
  if (poll->next_ != nullptr) poll->next_->previous_ = poll;
  instance.polls_ = poll;
  return poll;
}

void Poll::start(int events) {
  if (closing_) return;
  uv_poll_start(&uv_, events, [](uv_poll_t* uv, int status, int got) {
    Poll* poll = static_cast<Poll*>(uv->data);
    if (!poll->closing_) poll->callback_(poll->owner_, status, got);
  });
}

void Poll::close() {
  if (closing_) return;
  closing_ = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&uv_), [](uv_handle_t* handle) {
    Poll* poll = static_cast<Poll*>(handle->data);
    poll->instance_->closed(poll);
  });
}

Instance::Instance(Napi::Env env) {
  napi_get_uv_event_loop(env, &loop_);
  env.SetInstanceData(this);
  // worker.terminate() with a live handle ends the whole process (uv_loop_close: "open handles") unless all are closed,
  // which takes a turn of the loop: hence the asynchronous kind of hook.
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle hook, void* self) { static_cast<Instance*>(self)->shut_down(hook); }, this,
      nullptr);
}

void Instance::shut_down(napi_async_cleanup_hook_handle hook) {
  ending_ = true;
  ending_hook_ = hook;
  for (Poll* poll = polls_; poll != nullptr; poll = poll->next_) poll->close();
  if (polls_ == nullptr) napi_remove_async_cleanup_hook(hook);
}

void Instance::closed(Poll* poll) {
  if (poll->previous_ != nullptr)
    poll->previous_->next_ = poll->next_;
  else
    polls_ = poll->next_;
  if (poll->next_ != nullptr) poll->next_->previous_ = poll->previous_;
  delete poll;
  if (ending_ && polls_ == nullptr) napi_remove_async_cleanup_hook(ending_hook_);
}

}  // namespace caisson
