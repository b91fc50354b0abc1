#include "monitor/external.h"

#include "core/birth_parts.h"
#include "core/memfd.h"
#include "core/sys.h"
#include "monitor/external_driver.h"

namespace caisson::monitor {

namespace {

Status take(const JsonValue& root, const char* key, String& into) {
  into = String(CAISSON_TRY(root[key].string(key)));
  if (into.empty()) return Error(EINVAL, "runtime handler", key);
  return ok();
}

Result<Birth> give_driver(const Driven& driven, const int stdio[3], void (*drive)(Stage&), int cgroup = -1) {
  CAISSON_TRY(become_subreaper());
  Stage s;
  s.driven = &driven;
  for (int i = 0; i < 3; ++i) s.stdio[i] = stdio[i];
  return give_birth(s, 0, -1, cgroup, drive);
}

}  // namespace

Result<Box<ExternalRuntime>> ExternalRuntime::load(Fd memfd) {
  const String text = CAISSON_TRY(read_sealed_text(memfd.get(), kTextMax));
  const JsonLimits limits{static_cast<u32>(kTextMax), 4, 256};
  auto document = CAISSON_TRY(JsonDocument::parse(text, limits));
  const JsonValue& root = document.root();
  auto runtime = Box<ExternalRuntime>::make();
  CAISSON_TRY(take(root, "name", runtime->name));
  CAISSON_TRY(take(root, "path", runtime->path));
  CAISSON_TRY(take(root, "root", runtime->root));
  CAISSON_TRY(take(root, "bundle", runtime->bundle));
  CAISSON_TRY(take(root, "cgroupRoot", runtime->cgroup_root));
  CAISSON_TRY(take(root, "cgroup", runtime->cgroup));
  CAISSON_TRY(take(root, "head", runtime->head));
  CAISSON_TRY(take(root, "tail", runtime->tail));
  runtime->timeout_ms = CAISSON_TRY(root["timeoutMs"].u32_value("timeoutMs"));
  runtime->places_execs = root["placesExecs"].bool_or(true);
  const JsonValue& options = root["options"];
  if (options.size() > kOptionsMax) return Error(EINVAL, "runtime handler", "options");
  for (u32 i = 0; i < options.size(); ++i) runtime->options.push(String(CAISSON_TRY(options.at(i).string("options"))));
  runtime->memfd = static_cast<Fd&&>(memfd);
  return runtime;
}

Result<Birth> begin_external_birth(BirthRequest request, const ExternalRuntime& runtime, string_view id) {
  CAISSON_TRY(become_subreaper());
  Driven driven{runtime, id, {}, {}, (request.plan->process().flags & kProcessTerminal) != 0};
  request.cgroup = -1;
  request.drive = drive_create;
  request.driven = &driven;
  return begin_birth(request);
}

Result<Birth> begin_external_exec(const ExternalRuntime& runtime, const ExternalExec& exec) {
  const String process = CAISSON_TRY(read_sealed_text(exec.process, ExternalRuntime::kTextMax));
  auto document = CAISSON_TRY(JsonDocument::parse(process));
  const bool terminal = document.root()["terminal"].bool_or(false);
  const Driven driven{runtime, exec.id, exec.leaf, process, terminal};
  // what does not place its processes leaves them where it was begun itself
  return give_driver(driven, exec.stdio, drive_exec, runtime.places_execs ? -1 : exec.cgroup);
}

Result<Birth> begin_external_delete(const ExternalRuntime& runtime, string_view id) {
  const Driven driven{runtime, id, {}, {}, false};
  constexpr int kNone[] = {-1, -1, -1};
  return give_driver(driven, kNone, drive_delete);
}

}  // namespace caisson::monitor
