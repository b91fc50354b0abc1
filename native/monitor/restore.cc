#include "monitor/restore.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/json.h"
#include "core/memfd.h"
#include "core/sys.h"
#include "core/tree/clone_tree.h"
#include "monitor/command.h"
#include "monitor/driver.h"
#include "monitor/failure.h"

namespace caisson::monitor {

namespace {

constexpr char kSubject[] = "checkpoint";

Result<String> text_of(const JsonValue& root, const char* key, bool optional = false) {
  const string_view text = CAISSON_TRY(root[key].string(key));
  if (text.empty() && !optional) return Error(EINVAL, "restore", key);
  return String(text);
}

Fd open_directory(Stage& s, const char* path) {
  return Fd(s.check(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)));
}

void apply_tree(Stage& s, const String& from, const Fd& target, string_view what) {
  if (from.empty()) return;
  const Fd source = open_directory(s, from.c_str());
  auto applied = clone_tree(source.get(), target.get(), CloneKind::kApply, Cancellation());
  if (applied) return;
  String message(string_view{kSubject});
  message.append(": ").append(what).append(": ").append(Failure::of(applied.error()).message);
  fail_with(s, DrivenBy::kCriu, applied.error().err, message);
}

// Where criu finds the mount of the container's cgroup.
void attach_cgroup(Stage& s, int directory) {
  s.at(Step::kMount);
  s.check(mkdir("m/cgroup", 0755));
  const Fd clone(s.check(sys::open_tree(directory, "", uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath})));
  s.check(sys::move_mount_at(clone.get(), "m/cgroup"));
}

void drive(Stage& s) {
  const Restoration& restoration = *static_cast<const Restoration*>(s.driven);
  default_signals(s);
  s.at(Step::kPrepare);
  // it is the seed's, which is left behind
  const Fd shm = restoration.shm.empty() ? Fd() : open_directory(s, kSeedShm);
  make_parts(s, restoration.point, restoration.cgroup_root);
  s.at(Step::kPrepare);
  String path(string_view{kCgroupPoint});
  const Fd cgroup = open_directory(s, path.append(restoration.cgroup_path).c_str());
  apply_tree(s, restoration.shm, shm, "the content of /dev/shm");
  apply_tree(s, restoration.changes, open_directory(s, "rootfs"), "the changes to the root file system");
  attach_cgroup(s, cgroup.get());
  s.at(Step::kJoinNamespace);
  const Fd network(open("ns/network", O_RDONLY | O_CLOEXEC));
  if (!network && errno != ENOENT) s.fail(errno);
  announce_ready(s);

  String log(restoration.point.view());
  log.append("/restore.log");
  Command restore(kSubject, restoration.criu, "restore", log, restoration.timeout_ms);
  restore.add("restore");
  for (const String& argument : restoration.arguments) restore.add(argument.view());
  restore.pass_stdio();
  if (network) restore.pass(network.get());
  restore.enter_cgroup(cgroup.get());
  if (!restore.run()) fail_with(s, DrivenBy::kCriu, restore.error(), restore.message());
  if (const char* why = announce_child(s, restoration.cgroup)) {
    String message(string_view{kSubject});
    fail_with(s, DrivenBy::kCriu, EPROTO, message.append(": ").append(restoration.criu).append(" ").append(why));
  }
  announce_executed(s);
}

}  // namespace

Result<Box<Restoration>> Restoration::load(const Fd& memfd) {
  const String text = CAISSON_TRY(read_sealed_text(memfd.get(), kTextMax));
  const JsonLimits limits{static_cast<u32>(kTextMax), 4, kArgumentsMax + 64};
  auto document = CAISSON_TRY(JsonDocument::parse(text, limits));
  const JsonValue& root = document.root();
  auto restoration = Box<Restoration>::make();
  restoration->criu = CAISSON_TRY(text_of(root, "criu"));
  restoration->point = CAISSON_TRY(text_of(root, "point"));
  restoration->cgroup_root = CAISSON_TRY(text_of(root, "cgroupRoot"));
  restoration->cgroup_path = CAISSON_TRY(text_of(root, "cgroupPath"));
  restoration->cgroup = CAISSON_TRY(text_of(root, "cgroup"));
  restoration->changes = CAISSON_TRY(text_of(root, "changes", true));
  restoration->shm = CAISSON_TRY(text_of(root, "shm", true));
  restoration->timeout_ms = CAISSON_TRY(root["timeoutMs"].u32_value("timeoutMs"));
  const JsonValue& arguments = root["arguments"];
  if (arguments.size() > kArgumentsMax) return Error(EINVAL, "restore", "arguments");
  for (u32 i = 0; i < arguments.size(); ++i)
    restoration->arguments.push(String(CAISSON_TRY(arguments.at(i).string("arguments"))));
  return restoration;
}

Result<Birth> begin_restore(BirthRequest request, const Restoration& restoration) {
  CAISSON_TRY(become_subreaper());
  request.cgroup = -1;
  request.drive = drive;
  request.driven = &restoration;
  return begin_birth(request);
}

}  // namespace caisson::monitor
