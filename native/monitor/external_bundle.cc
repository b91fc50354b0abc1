// The bundle of an external runtime: put together where the runtime is executed, seen by nobody else.
#include <fcntl.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "monitor/external_driver.h"

namespace caisson::monitor {

namespace {

constexpr long kCgroup2Magic = 0x63677270;
constexpr char kCgroupPoint[] = "/sys/fs/cgroup";

// On a host of both versions runtimes look at this mount and would take version 1.
void show_cgroup2(Stage& s, const String& root) {
  struct statfs found = {};
  if (statfs(kCgroupPoint, &found) == 0 && found.f_type == kCgroup2Magic) return;
  s.at(Step::kMount);
  s.check(sys::mount(root.c_str(), kCgroupPoint, nullptr, uapi::kMsBind, nullptr));
}

int make_point(Stage& s, int fd, const char* path) {
  struct stat st = {};
  s.check(fstat(fd, &st));
  if (S_ISDIR(st.st_mode)) return s.check(mkdir(path, 0755));
  close(s.check(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)));
  return 0;
}

void write_user(JsonWriter& json, const Identity& who) {
  json.begin_object();
  json.member("uid", who.uid);
  json.member("gid", who.gid);
  json.key("additionalGids");
  json.begin_array();
  for (u32 i = 0; i < who.group_count; ++i) json.value(who.groups[i]);
  json.end_array();
  json.end_object();
}

// The last part of the path of each in the specification, by src/pod/handlers/.
void bind_namespaces(Stage& s) {
  s.at(Step::kJoinNamespace);
  s.check(mkdir("ns", 0755));
  for (u32 i = 0; i < Stage::kNamespaces; ++i) {
    if (s.join[i] < 0) continue;
    s.index = i;
    String point("ns/");
    point.append(namespace_name(static_cast<NamespaceType>(i)));
    close(s.check(open(point.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)));
    char source[32];
    snprintf(source, sizeof source, "/proc/self/fd/%d", s.join[i]);
    s.check(sys::mount(source, point.c_str(), nullptr, uapi::kMsBind, nullptr));
  }
}

void attach_sources(Stage& s) {
  s.check(mkdir("m", 0755));
  for (u32 i = 0; i < s.plan->mounts().size(); ++i) {
    if (s.sources[i] < 0) continue;
    s.at(Step::kMount, i);
    char point[24];
    snprintf(point, sizeof point, "m/%u", i);
    make_point(s, s.sources[i], point);
    s.check(sys::move_mount_at(s.sources[i], point));
    close(s.sources[i]);
  }
}

}  // namespace

bool write_file(const char* path, string_view text) {
  Fd fd(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return false;
  while (!text.empty()) {
    ssize_t n = write(fd.get(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void make_view(Stage& s, const Driven& driven) {
  const ExternalRuntime& runtime = driven.runtime;
  copy_host_tree(s);
  show_cgroup2(s, runtime.cgroup_root);
  s.at(Step::kMount);
  int fs = s.check(sys::fsopen("tmpfs"));
  s.check(sys::fsconfig_string(fs, "mode", "0755"));
  s.check(sys::fsconfig_create(fs));
  int mount = s.check(sys::fsmount(fs, uapi::kMountAttrNosuid | uapi::kMountAttrNodev));
  close(fs);
  s.check(sys::move_mount_at(mount, runtime.bundle.c_str()));
  close(mount);
  s.check(chdir(runtime.bundle.c_str()));
  umask(022);
}

void make_bundle(Stage& s, const Driven& driven) {
  constexpr unsigned kClone = uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath | uapi::kAtRecursive};
  s.at(Step::kAttachRoot);
  // with a user namespace the root is a mount that is attached nowhere already
  const bool detached = s.has_user_namespace();
  int root = detached ? s.root : s.check(sys::open_tree(s.root, "", kClone));
  s.check(sys::setns(s.host_mounts, uapi::kCloneNewns));
  make_view(s, driven);
  s.at(Step::kAttachRoot);
  s.check(mkdir("rootfs", 0755));
  s.check(sys::move_mount_at(root, "rootfs"));
  s.root = s.check(open("rootfs", O_PATH | O_DIRECTORY | O_CLOEXEC));
  attach_sources(s);
  bind_namespaces(s);
  if (detached) {
    // through an idmapped mount only a mapped id can make files
    syscall(SYS_setfsgid, s.host_gid);
    syscall(SYS_setfsuid, s.host_uid);
  }
  make_directories(s);
  if (detached) {
    syscall(SYS_setfsuid, 0);
    syscall(SYS_setfsgid, 0);
  }
  resolve_identity(s);
  String config;
  config.append(driven.runtime.head);
  JsonWriter json(config);
  write_user(json, s.identity);
  config.append(driven.runtime.tail);
  s.at(Step::kPrepare);
  if (!write_file("config.json", config)) s.fail(errno);
}

}  // namespace caisson::monitor
