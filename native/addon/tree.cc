// Trees copied on the thread pool, { done: a promise, cancel() }, and bounded.
#include <memory>

#include "addon/arguments.h"
#include "addon/groups.h"
#include "addon/job.h"
#include "core/project_quota.h"
#include "core/tree/clone_tree.h"
#include "core/tree/diff_tree.h"

namespace caisson {
namespace {

constexpr size_t kLowersMax = 500;  // OVL_MAX_STACK: no snapshot has more layers

Napi::Value stats_object(Napi::Env env, CloneStats stats) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("entries", static_cast<double>(stats.entries));
  object.Set("bytes", static_cast<double>(stats.bytes));
  return object;
}

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
      stats_object);
}

Napi::Value diff_tree_job(const Napi::CallbackInfo& info) {
  std::vector<int> lowers = fds_argument(info[0], "lowers", kLowersMax);
  int upper = fd_argument(info[1], "upper");
  int to = fd_argument(info[2], "to");
  const i64 since = integer_argument(info[3], "since", 0, kSafeIntegerMax);
  const timespec time = {since / 1000, (since % 1000) * 1'000'000};
  return run_cancellable(
      info.Env(),
      [=, lowers = std::move(lowers)](const Cancellation& cancellation) {
        return diff_tree({lowers.data(), lowers.size()}, upper, to, time, cancellation);
      },
      stats_object);
}

Napi::Value limit(const Napi::CallbackInfo& info) {
  int dir = fd_argument(info[0], "dirfd");
  const u64 bytes = static_cast<u64>(integer_argument(info[1], "bytes", 1, kSafeIntegerMax));
  return run_job(info.Env(), [=] { return limit_project(dir, bytes); });
}

Napi::Value usage(const Napi::CallbackInfo& info) {
  return run_job(
      info.Env(), [dir = fd_argument(info[0], "dirfd")] { return project_usage(dir); },
      [](Napi::Env env, ProjectUsage found) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("bytes", static_cast<double>(found.bytes));
        object.Set("inodes", static_cast<double>(found.inodes));
        return object;
      });
}

Napi::Value release(const Napi::CallbackInfo& info) {
  return run_job(info.Env(), [dir = fd_argument(info[0], "dirfd"), name = string_argument(info[1], "name")] {
    return release_project(dir, name.c_str());
  });
}

}  // namespace

void init_tree(Napi::Env env, Napi::Object exports) {
  exports.Set("projectLimit", Napi::Function::New(env, limit, "projectLimit"));
  exports.Set("projectUsage", Napi::Function::New(env, usage, "projectUsage"));
  exports.Set("projectRelease", Napi::Function::New(env, release, "projectRelease"));
  exports.Set("diffTree", Napi::Function::New(env, diff_tree_job, "diffTree"));
  exports.Set("cloneTree", Napi::Function::New(env, clone_tree_job, "cloneTree"));
}

}  // namespace caisson
