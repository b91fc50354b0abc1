// A promise over a thread of its own, for work that waits for somebody else: who reads the other end of a pipe may take
// for ever, and libuv's pool has four threads.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "addon/error.h"

namespace caisson {

// work: () -> Result<T>, touches no JavaScript. convert: (Napi::Env, T) -> Napi::Value.
template <typename Work, typename Convert>
Napi::Value run_on_thread(Napi::Env env, Work work, Convert convert) {
  using Outcome = decltype(std::declval<Work>()());
  struct State {
    Napi::Promise::Deferred deferred;
    Napi::ThreadSafeFunction done;
    Work work;
    Convert convert;
    std::optional<Outcome> outcome;
  };
  Napi::Function nothing = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
  auto* state =
      new State{Napi::Promise::Deferred::New(env), Napi::ThreadSafeFunction::New(env, nothing, "thread", 0, 1),
                std::move(work), std::move(convert), std::nullopt};
  Napi::Promise promise = state->deferred.Promise();
  std::thread([state] {
    state->outcome.emplace(state->work());
    Napi::ThreadSafeFunction done = state->done;
    // refused when the environment has ended: then nobody waits, and the state is left to the end of the process
    done.BlockingCall(state, [](Napi::Env env, Napi::Function, State* ended) {
      const std::unique_ptr<State> owned(ended);
      Napi::HandleScope scope(env);
      if (!*owned->outcome) return owned->deferred.Reject(make_error(env, owned->outcome->error()).Value());
      try {
        owned->deferred.Resolve(owned->convert(env, owned->outcome->take()));
      } catch (const Napi::Error& error) {
        owned->deferred.Reject(error.Value());
      }
    });
    done.Release();
  }).detach();
  return promise;
}

}  // namespace caisson
