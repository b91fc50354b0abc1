#include "oci/criu.h"

#include <sys/stat.h>

#include "oci/rootless.h"

namespace caisson::oci {

void CriuArguments::add(string_view a, string_view b, string_view c, string_view d, string_view e) {
  String text(a);
  text.append(b).append(c).append(d).append(e);
  texts_.push(static_cast<String&&>(text));
}

void CriuArguments::pass(const Options& options, string_view flag) {
  if (options.text(flag).empty()) return;
  add("--", flag);
  add(options.text(flag));
}

Vec<string_view> CriuArguments::list() const {
  Vec<string_view> texts;
  for (const String& each : texts_) texts.push(each.view());
  return texts;
}

void pass_common(CriuArguments& arguments, const Options& options) {
  for (const string_view flag : {"tcp-established", "ext-unix-sk", "shell-job", "file-locks", "auto-dedup"})
    if (options.on(flag)) arguments.add("--", flag);
}

Outcome<String> criu_directory(string_view path) {
  String absolute = OCI_TRY(absolute_path(path));
  String prefix;
  const string_view whole = absolute;
  for (size_t at = 1; at <= whole.size(); ++at) {
    if (at != whole.size() && whole[at] != '/') continue;
    prefix.clear();
    prefix.append(part(whole, 0, at));
    if (mkdir(prefix.c_str(), 0700) != 0 && errno != EEXIST) return Error::last("mkdir", prefix);
  }
  return absolute;
}

Vec<External> externals(const PlanView& plan, const Vec<string_view>& masks) {
  Vec<External> list;
  for (const MountEntry& mount : plan.mounts())
    if (mount.kind == MountKind::kBind) list.push({plan.text(mount.destination), plan.text(mount.source)});
  for (const string_view path : masks) list.push({path, "/dev/null"});
  if (plan.head().ns(NamespaceType::kUser).mode != NamespaceMode::kHost)
    for (const DeviceEntry& device : plan.devices())
      list.push({plan.text(device.path), plan.text(device.source.length != 0 ? device.source : device.path)});
  return list;
}

Done run_criu(const CriuArguments& arguments, span<const int> fds, int cgroup, string_view log) {
  const Vec<string_view> list = arguments.list();
  Result<Spawned> program = start_program(list, fds, cgroup);
  if (!program && program.error().err == ENOENT)
    return Fault::text_of("criu is not installed: \"", list[0], "\" is not in $PATH (see --criu)");
  if (!program) return program.error();
  const int status = wait_program(*program);
  if (status == 0) return done();
  String number;
  number.append_i64(status);
  return Fault::text_of("criu failed: exit status ", number, ", log: ", log);
}

}  // namespace caisson::oci
