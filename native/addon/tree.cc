// Trees copied on the thread pool: { done: a promise, cancel() }.
#include <memory>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "core/tree/clone_tree.h"

namespace caisson {
namespace {

template <typename Work, typename Convert>
Napi::Value run_cancellable(Napi::Env env, Work work, Convert convert) {
  auto cancellation = std::make_shared<Cancellation>();
  Napi::Object job = Napi::Object::New(env);
  job.Set("done", run_job(
                      env, [cancellation, work = std::move(work)] { return work(*cancellation); }, convert));
  job.Set("cancel", Napi::Function::New(env, [cancellation](const Napi::CallbackInfo&) { cancellation->cancel(); }));
  return job;
}

Napi::Value clone_tree_job(const Napi::CallbackInfo& info) {
  int from = fd_argument(info[0], "from");
  int to = fd_argument(info[1], "to");
  const std::string kind = string_argument(info[2], "kind");
  if (kind != "layer" && kind != "apply") throw Napi::TypeError::New(info.Env(), "kind: \"layer\" or \"apply\"");
  const CloneKind which = kind == "layer" ? CloneKind::kLayer : CloneKind::kApply;
  return run_cancellable(
      info.Env(), [=](const Cancellation& cancellation) { return clone_tree(from, to, which, cancellation); },
      [](Napi::Env env, CloneStats stats) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("entries", static_cast<double>(stats.entries));
        object.Set("bytes", static_cast<double>(stats.bytes));
        return object;
      });
}

}  // namespace

void init_tree(Napi::Env env, Napi::Object exports) {
  exports.Set("cloneTree", Napi::Function::New(env, clone_tree_job, "cloneTree"));
}

}  // namespace caisson
