// recodeBlob(): a layer in another coding, or its bare bytes for a pipe. packTree(): a tree as a layer or an archive.
#include <errno.h>

#include <memory>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/decoder.h"
#include "addon/groups.h"
#include "addon/layer_sink.h"
#include "addon/thread_job.h"
#include "core/fd.h"
#include "core/pack/pack_tree.h"

namespace caisson {
namespace {

constexpr size_t kChunk = 512 * 1024;
constexpr size_t kExcludeMax = 4096;

u64 number(const Napi::Object& options, const char* name, i64 low) {
  return static_cast<u64>(integer_argument(options.Get(name), name, low, kSafeIntegerMax));
}

Napi::Value to_object(Napi::Env env, SunkLayer layer) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("diffId", hex_of(layer.diff_id));
  object.Set("digest", hex_of(layer.digest));
  object.Set("size", static_cast<double>(layer.size));
  object.Set("expanded", static_cast<double>(layer.expanded));
  return object;
}

// The work's end closes `to`: whoever reads a pipe's other end sees it.
template <typename Work>
Napi::Value run(Napi::Env env, std::shared_ptr<Fd> to, Work work) {
  auto cancelled = std::make_shared<std::atomic<bool>>(false);
  Napi::Object handle = Napi::Object::New(env);
  auto task = [cancelled, to = std::move(to), work = std::move(work)]() -> Result<SunkLayer> {
    Result<SunkLayer> result = work(to ? to->get() : -1, *cancelled);
    if (to) to->reset();
    return result;
  };
  handle.Set("done", run_on_thread(env, std::move(task), to_object));
  handle.Set("abort", Napi::Function::New(
                          env, [cancelled](const Napi::CallbackInfo&) { *cancelled = true; }, "abort"));
  return handle;
}

std::shared_ptr<Fd> target_argument(const Napi::CallbackInfo& info, size_t at) {
  return info[at].IsNull() ? nullptr : std::make_shared<Fd>(fd_copy_argument(info[at], "to"));
}

// recodeBlob(from, to: number | null, { gzip, maxExpanded, maxRatio, ratioFloor }): { done, abort() }
Napi::Value recode_blob(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto from = std::make_shared<Fd>(fd_copy_argument(info[0], "from"));
  if (!info[2].IsObject()) throw Napi::TypeError::New(env, "argument 'options' must be an object");
  const Napi::Object options = info[2].As<Napi::Object>();
  const bool gzip = options.Get("gzip").ToBoolean();
  const ExpansionLimits limits{number(options, "maxExpanded", 0), number(options, "maxRatio", 1),
                               number(options, "ratioFloor", 0)};
  auto work = [gzip, limits, from](int to, const std::atomic<bool>& cancelled) -> Result<SunkLayer> {
    const std::unique_ptr<Decoder> decoder = CAISSON_TRY(Decoder::open({from->get(), cancelled}));
    LayerSink sink(to, gzip, cancelled);
    std::vector<u8> chunk(kChunk);
    for (;;) {
      const size_t n = CAISSON_TRY(decoder->read({chunk.data(), chunk.size()}, limits));
      if (n == 0) break;
      CAISSON_TRY(sink.write({chunk.data(), n}));
    }
    return sink.finish();
  };
  return run(env, target_argument(info, 1), std::move(work));
}

// packTree(directories, to: number | null, { gzip, layer, exclude }): { done, abort() }
Napi::Value pack_tree_to(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<Fd> from = fd_copies_argument(info[0], "directories", kLayersMax);
  if (from.empty()) throw Napi::RangeError::New(env, "argument 'directories' must hold one at least");
  if (!info[2].IsObject()) throw Napi::TypeError::New(env, "argument 'options' must be an object");
  const Napi::Object options = info[2].As<Napi::Object>();
  const bool gzip = options.Get("gzip").ToBoolean();
  const PackKind kind = options.Get("layer").ToBoolean() ? PackKind::kLayer : PackKind::kTree;
  auto work = [gzip, kind, exclude = strings_argument(options.Get("exclude"), "exclude", kExcludeMax),
               from = std::move(from)](int to, const std::atomic<bool>& cancelled) -> Result<SunkLayer> {
    Vec<String> paths;
    for (const std::string& path : exclude) paths.push(String(path));
    LayerSink sink(to, gzip, cancelled);
    std::vector<int> dirs;
    for (const Fd& each : from) dirs.push_back(each.get());
    CAISSON_TRY(pack_tree(dirs, kind, {paths.data(), paths.size()}, sink));
    return sink.finish();
  };
  return run(env, target_argument(info, 1), std::move(work));
}

}  // namespace

void init_layer_maker(Napi::Env env, Napi::Object exports) {
  exports.Set("packTree", Napi::Function::New(env, pack_tree_to, "packTree"));
  exports.Set("recodeBlob", Napi::Function::New(env, recode_blob, "recodeBlob"));
}

}  // namespace caisson
