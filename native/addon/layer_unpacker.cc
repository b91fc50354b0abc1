// LayerUnpacker: applies a layer to a directory on libuv's pool, chunk by chunk.
#include "addon/layer_unpacker.h"

#include <memory>
#include <utility>

#include "addon/error.h"
#include "core/unpack/layer_apply.h"

namespace caisson {
namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

class LayerUnpacker : public Napi::ObjectWrap<LayerUnpacker> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "LayerUnpacker",
        {InstanceMethod<&LayerUnpacker::write>("write"), InstanceMethod<&LayerUnpacker::finish>("finish"),
         InstanceMethod<&LayerUnpacker::abort>("abort")});
  }

  // (dirfd: number, limits: { maxEntries, maxBytes }); throws when the directory cannot be opened.
  explicit LayerUnpacker(const Napi::CallbackInfo& info) : Napi::ObjectWrap<LayerUnpacker>(info) {
    Napi::Env env = info.Env();
    if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsObject())
      throw Napi::TypeError::New(env, "createLayerUnpacker(dirfd, limits)");
    Napi::Object object = info[1].As<Napi::Object>();
    tar::Limits limits;
    limits.max_entries = limit(object, "maxEntries");
    limits.max_bytes = limit(object, "maxBytes");
    Result<LayerApply> made = LayerApply::create(info[0].As<Napi::Number>().Int32Value(), limits);
    if (!made) throw make_error(env, made.error());
    apply_ = std::make_unique<LayerApply>(made.take());
  }

 private:
  class Job;

  static u64 limit(const Napi::Object& limits, const char* name) {
    Napi::Value value = limits.Get(name);
    double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number <= kMaxSafeInteger))
      throw Napi::RangeError::New(limits.Env(), std::string("createLayerUnpacker: limits.") + name);
    return static_cast<u64>(number);
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsBuffer()) throw Napi::TypeError::New(info.Env(), "write(chunk: Buffer)");
    return start(info.Env(), info[0].As<Napi::Buffer<u8>>());
  }

  Napi::Value finish(const Napi::CallbackInfo& info) { return start(info.Env(), {}); }

  void abort(const Napi::CallbackInfo&) {
    over_ = Error(ECANCELED, "unpack", "layer");
    ended_ = true;
    if (!busy_) apply_.reset();  // else the job under way drops it when it is done
  }

  Napi::Value start(Napi::Env env, Napi::Buffer<u8> chunk);

  std::unique_ptr<LayerApply> apply_;  // touched by the pool while busy_
  bool busy_ = false;
  bool ended_ = false;
  Error over_;  // why nothing more is taken, once ended_
};

// One write or finish. Holds the unpacker and the chunk alive; settles its promise on the main thread.
class LayerUnpacker::Job : public Napi::AsyncWorker {
 public:
  Job(Napi::Env env, LayerUnpacker* owner, Napi::Buffer<u8> chunk)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), owner_(owner) {
    self_ = Napi::Persistent(owner->Value());
    if (chunk.IsEmpty()) return;
    finishing_ = false;
    chunk_ = Napi::Persistent(chunk.As<Napi::Object>());
    bytes_ = {chunk.Data(), chunk.Length()};
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    if (finishing_) {
      Result<LayerStats> done = owner_->apply_->finish();
      if (done)
        stats_ = *done;
      else
        fail(done.error());
      return;
    }
    Status done = owner_->apply_->write(bytes_);
    if (!done) fail(done.error());
  }

  void OnOK() override {
    Napi::Env env = Env();
    Napi::HandleScope scope(env);
    bool aborted = owner_->ended_;
    owner_->busy_ = false;
    if (!aborted && (failed_ || finishing_)) {
      owner_->ended_ = true;
      owner_->over_ = failed_ ? error_ : Error(EINVAL, "unpack", "the layer is finished");
    }
    if (owner_->ended_) owner_->apply_.reset();
    if (aborted) return deferred_.Reject(make_error(env, owner_->over_).Value());
    if (failed_) return deferred_.Reject(make_error(env, error_).Value());
    if (!finishing_) return deferred_.Resolve(env.Undefined());
    Napi::Object stats = Napi::Object::New(env);
    stats.Set("entries", static_cast<double>(stats_.entries));
    stats.Set("bytes", static_cast<double>(stats_.bytes));
    stats.Set("xattrsLeftOut", static_cast<double>(stats_.xattrs_left_out));
    stats.Set("opaqueRoot", stats_.opaque_root);
    deferred_.Resolve(stats);
  }

 private:
  void fail(const Error& error) {
    failed_ = true;
    error_ = error;
  }

  Napi::Promise::Deferred deferred_;
  LayerUnpacker* owner_;
  Napi::ObjectReference self_;
  Napi::ObjectReference chunk_;
  span<const u8> bytes_;
  bool finishing_ = true;
  bool failed_ = false;
  Error error_;
  LayerStats stats_;
};

Napi::Value LayerUnpacker::start(Napi::Env env, Napi::Buffer<u8> chunk) {
  if (ended_ || busy_) {
    Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(make_error(env, ended_ ? over_ : Error(EBUSY, "unpack", "one call at a time")).Value());
    return deferred.Promise();
  }
  busy_ = true;
  Job* job = new Job(env, this, chunk);  // deletes itself when it is done
  Napi::Promise promise = job->promise();
  job->Queue();
  return promise;
}

}  // namespace

void init_layer_unpacker(Napi::Env env, Napi::Object exports) {
  Napi::FunctionReference* constructor = new Napi::FunctionReference(Napi::Persistent(LayerUnpacker::define(env)));
  env.AddCleanupHook([constructor] { delete constructor; });
  exports.Set("createLayerUnpacker",
              Napi::Function::New(
                  env,
                  [constructor](const Napi::CallbackInfo& info) -> Napi::Value {
                    return constructor->New({info.Length() > 0 ? info[0] : info.Env().Undefined(),
                                             info.Length() > 1 ? info[1] : info.Env().Undefined()});
                  },
                  "createLayerUnpacker"));
}

}  // namespace caisson
