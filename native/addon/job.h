// A promise over libuv's pool: work returns Result<T> there, and its value is converted on the main thread.
#pragma once

#include <napi.h>

#include <optional>
#include <utility>

#include "addon/error.h"

namespace caisson {

// work: () -> Result<T>, touches no JavaScript. convert: (Napi::Env, T) -> Napi::Value.
template <typename Work, typename Convert>
class Job final : public Napi::AsyncWorker {
 public:
  static Napi::Value run(Napi::Env env, Work work, Convert convert) {
    Job* job = new Job(env, std::move(work), std::move(convert));  // deletes itself
    Napi::Promise promise = job->deferred_.Promise();
    job->Queue();
    return promise;
  }

 protected:
  void Execute() override { result_.emplace(work_()); }
  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (!*result_) return deferred_.Reject(make_error(Env(), result_->error()).Value());
    try {
      deferred_.Resolve(convert_(Env(), result_->take()));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Job(Napi::Env env, Work work, Convert convert)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        convert_(std::move(convert)) {}
  Napi::Promise::Deferred deferred_;
  Work work_;
  Convert convert_;
  std::optional<decltype(std::declval<Work>()())> result_;
};

template <typename Work, typename Convert>
Napi::Value run_job(Napi::Env env, Work work, Convert convert) {
  return Job<Work, Convert>::run(env, std::move(work), std::move(convert));
}

// For work that returns Status.
template <typename Work>
Napi::Value run_job(Napi::Env env, Work work) {
  return run_job(env, std::move(work), [](Napi::Env e, Unit) -> Napi::Value { return e.Undefined(); });
}

// The value of a call made at once, or its error thrown.
template <typename T>
T value_of(Napi::Env env, Result<T> result) {
  if (!result) throw make_error(env, result.error());
  return result.take();
}

}  // namespace caisson
