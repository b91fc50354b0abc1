// unpackLayer(): a layer blob becomes a directory, off the event loop.
#include "addon/layer_unpacker.h"

#include <memory>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/error.h"
#include "addon/layer_pipeline.h"
#include "addon/sha256.h"
#include "addon/thread_job.h"

namespace caisson {
namespace {

u64 limit(const Napi::Object& limits, const char* name) {
  return static_cast<u64>(integer_argument(limits.Get(name), name, 0, kSafeIntegerMax));
}

Napi::Value to_object(Napi::Env env, PipelineResult result) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("diffId", hex_of(result.diff_id));
  object.Set("expanded", static_cast<double>(result.expanded));
  object.Set("entries", static_cast<double>(result.stats.entries));
  object.Set("bytes", static_cast<double>(result.stats.bytes));
  object.Set("xattrsLeftOut", static_cast<double>(result.stats.xattrs_left_out));
  object.Set("opaqueRoot", result.stats.opaque_root);
  object.Set("implied", static_cast<double>(result.stats.implied));
  object.Set("impliedRoot", result.stats.implied_root);
  return object;
}

auto settler(std::shared_ptr<LayerPipeline> pipeline) {
  return [pipeline = std::move(pipeline)](const Napi::CallbackInfo& info) {
    std::vector<Fd> below = fd_copies_argument(info[0], "below", kLayersMax);
    auto work = [pipeline, below = std::move(below), all = info[1].ToBoolean().Value()] {
      std::vector<int> fds;
      for (const Fd& each : below) fds.push_back(each.get());
      return pipeline->settle({fds, all});
    };
    return run_on_thread(info.Env(), std::move(work),
                         [](Napi::Env env, bool whole) { return Napi::Boolean::New(env, whole); });
  };
}

// unpackLayer(blob, directory, { ...limits, erofsBlock?, growth?, inherits? }):
// { done: Promise<LayerStats>, abort(), settle(below, all): Promise<boolean> }
Napi::Value unpack_layer(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto from = std::make_shared<Fd>(fd_copy_argument(info[0], "blob"));
  auto to = std::make_shared<Fd>(fd_copy_argument(info[1], "directory"));
  if (!info[2].IsObject()) throw Napi::TypeError::New(env, "argument 'limits' must be an object");
  const Napi::Object object = info[2].As<Napi::Object>();
  PipelineLimits limits;
  limits.tar.max_entries = limit(object, "maxEntries");
  limits.tar.max_bytes = limit(object, "maxBytes");
  limits.expansion.max_expanded = limit(object, "maxExpanded");
  limits.expansion.max_ratio = limit(object, "maxRatio");
  limits.expansion.ratio_floor = limit(object, "ratioFloor");
  if (limits.expansion.max_ratio == 0) throw Napi::RangeError::New(env, "argument 'maxRatio' must be at least 1");

  LayerForm form;
  const Napi::Value block = object.Get("erofsBlock");
  if (!block.IsUndefined()) {
    const i64 size = integer_argument(block, "erofsBlock", 512, 4096);
    if (size != 512 && size != 4096) throw Napi::RangeError::New(env, "argument 'erofsBlock' must be 512 or 4096");
    form = erofs::IndexForm{size == 512 ? 9u : 12u, size == 512};
  }

  std::shared_ptr<Growth> growth;
  const Napi::Value growing = object.Get("growth");
  if (growing.IsExternal())
    growth = *growing.As<Napi::External<std::shared_ptr<Growth>>>().Data();
  else if (!growing.IsUndefined())
    throw Napi::TypeError::New(env, "argument 'growth' must be a blob writer's");

  const bool inherits = object.Get("inherits").ToBoolean();
  auto cancelled = std::make_shared<std::atomic<bool>>(false);
  auto pipeline = std::make_shared<LayerPipeline>(form, limits, inherits);
  auto work = [cancelled, growth, pipeline, inherits, from, to]() -> Result<PipelineResult> {
    PipelineResult result = CAISSON_TRY(pipeline->run({from->get(), *cancelled, growth.get()}, to->get()));
    if (!inherits) CAISSON_TRY(pipeline->settle({{}, true}));
    return result;
  };
  auto abort = [cancelled, growth, pipeline](const Napi::CallbackInfo&) {
    *cancelled = true;
    if (growth != nullptr) growth->wake();
    pipeline->drop();
  };
  Napi::Object handle = Napi::Object::New(env);
  handle.Set("done", run_on_thread(env, std::move(work), to_object));
  handle.Set("abort", Napi::Function::New(env, std::move(abort), "abort"));
  handle.Set("settle", Napi::Function::New(env, settler(pipeline), "settle"));
  return handle;
}

}  // namespace

void init_layer_unpacker(Napi::Env env, Napi::Object exports) {
  exports.Set("unpackLayer", Napi::Function::New(env, unpack_layer, "unpackLayer"));
}

}  // namespace caisson
