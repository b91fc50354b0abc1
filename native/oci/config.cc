#include "oci/config.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "oci/files.h"
#include "oci/log.h"

namespace caisson::oci {

namespace {

constexpr char kConfig[] = "config.json";

Outcome<Config> parse(String text) {
  Result<JsonDocument> document = JsonDocument::parse(text);
  if (!document) return Fault::text_of(kConfig, ": ", document.error().object);
  return Config{static_cast<String&&>(text), document.take()};
}

}  // namespace

Outcome<Bundle> open_bundle(string_view path) {
  Bundle bundle;
  const String name(path.empty() ? string_view(".") : path);
  bundle.dir.reset(openat(AT_FDCWD, name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!bundle.dir) return Error::last("open", name);
  String link(string_view("/proc/self/fd/"));
  link.append_i64(bundle.dir.get());
  char target[PATH_MAX];
  const ssize_t n = readlink(link.c_str(), target, sizeof target);
  if (n <= 0 || target[0] != '/') return Error(n <= 0 ? errno : ENOENT, "readlink", name);
  bundle.path.append(string_view(target, static_cast<size_t>(n)));
  return bundle;
}

Outcome<Config> read_config(const Bundle& bundle) {
  Fd file(openat(bundle.dir.get(), kConfig, O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT)
    return Fault::text_of("JSON specification file ", kConfig, " not found in ", bundle.path);
  if (!file) return Error::last("open", kConfig);
  return parse(OCI_TRY(read_whole(file.get(), kConfigMax, kConfig)));
}

Outcome<Config> read_config(const Slot& slot) { return parse(OCI_TRY(slot.read(kConfig, kConfigMax))); }

Outcome<Compilation> finish_compilation(Result<Compiled> compiled) {
  if (!compiled) return compiled.error();
  Compilation result;
  result.bytes = static_cast<Vec<u8>&&>(compiled->plan);
  result.plan = OCI_TRY(PlanView::parse({result.bytes.data(), result.bytes.size()}));
  return result;
}

Outcome<Compilation> compile_config(string_view spec, const CompileInput& input) {
  String text;
  JsonWriter json(text);
  json.begin_object().member("bundle", input.bundle).member("id", input.id);
  json.key("controllers").begin_array();
  if (input.controllers != nullptr)
    for (const String& each : *input.controllers) json.value(each.view());
  json.end_array();
  json.member("missingController", input.controllers != nullptr ? "error" : "warn");
  json.member("noPivot", input.no_pivot).member("newKeyring", input.new_keyring);
  json.member("setHome", true);  // as crun and runc, and programs count on it
  json.key("spec").raw(spec);    // one JSON value, as read_config() has seen
  json.end_object();
  Result<Compiled> compiled = compile_container(text);
  if (compiled && input.controllers != nullptr)
    for (const String& warning : compiled->warnings) log(Level::kWarning, warning);
  return finish_compilation(static_cast<Result<Compiled>&&>(compiled));
}

Outcome<Compilation> compile_again(const Slot& slot, const State& state) {
  const Config config = OCI_TRY(read_config(slot));
  CompileInput input;
  input.bundle = state.bundle;
  input.id = state.id;
  return compile_config(config.text, input);
}

Outcome<Compilation> compile_hooks_of(const Slot& slot) {
  const Config config = OCI_TRY(read_config(slot));
  String text;
  JsonWriter json(text);
  json.begin_object().key("hooks").value(config.root()["hooks"]).end_object();
  return finish_compilation(compile_hooks(text));
}

bool has_hooks(const JsonValue& spec, string_view kind) { return spec["hooks"][kind].size() != 0; }

bool joins_mounts(const JsonValue& spec) {
  const JsonValue& list = spec["linux"]["namespaces"];
  for (u32 i = 0; i < list.size(); ++i)
    if (list.at(i)["type"].string_or({}) == "mount" && !list.at(i)["path"].string_or({}).empty()) return true;
  return false;
}

}  // namespace caisson::oci
