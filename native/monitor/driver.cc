#include "monitor/driver.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace caisson::monitor {

namespace {

constexpr long kCgroup2Magic = 0x63677270;

bool read_text(const char* path, char* into, size_t size) {
  Fd fd(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  if (!fd) return false;
  ssize_t n = read(fd.get(), into, size - 1);
  if (n <= 0) return false;
  into[n] = '\0';
  return true;
}

int parse_pid(const char* text) {
  u32 pid = 0;
  const char* at = text;
  for (; *at >= '0' && *at <= '9' && at - text < 9; ++at) pid = pid * 10 + static_cast<u32>(*at - '0');
  while (*at == '\n' || *at == ' ') ++at;
  return *at == '\0' && pid > 1 ? static_cast<int>(pid) : -1;
}

int parent_of(int pid) {
  char path[40];
  char text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (!read_text(path, text, sizeof text)) return -1;
  const char* end = strrchr(text, ')');
  int parent = -1;
  return end != nullptr && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : -1;
}

bool is_in_cgroup(int pid, string_view name) {
  char path[40];
  char text[8192];
  snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
  if (!read_text(path, text, sizeof text)) return false;
  string_view all(text);
  String wanted("/");
  wanted.append(name);
  for (size_t at = all.find(wanted.view()); at != all.npos; at = all.find(wanted.view(), at + 1)) {
    const size_t end = at + wanted.size();
    if (end == all.size() || all[end] == '/' || all[end] == '\n') return true;
  }
  return false;
}

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

Status become_subreaper() {
  constexpr u64 kPrSetChildSubreaper = 36;
  if (sys::prctl(kPrSetChildSubreaper, 1) != 0) return Error::last("prctl", "PR_SET_CHILD_SUBREAPER");
  return ok();
}

void fail_with(Stage& s, DrivenBy by, int err, string_view message) {
  GateReport report;
  report.kind = GateReport::kFailed;
  report.step = kDrivenStep;
  report.index = static_cast<u32>(by);
  report.err = err;
  message = part(message, 0, sizeof report.found - 1);
  memcpy(report.found, message.data(), message.size());
  s.report(report);
  _exit(1);
}

const char* announce_child(Stage& s, string_view cgroup) {
  char text[32];
  if (!read_text("pid", text, sizeof text)) return "has written no pid file";
  const int pid = parse_pid(text);
  if (pid < 0) return "what it has written as a pid file is no process id";
  Fd pidfd(sys::pidfd_open(pid));
  if (!pidfd) return "the process of its pid file does not exist";
  if (parent_of(pid) != getppid()) return "the process of its pid file is no child of the pod's monitor";
  if (!is_in_cgroup(pid, cgroup)) return "the process of its pid file is not in the container's cgroup";
  GateReport child;
  child.kind = GateReport::kChild;
  child.pid = pid;
  s.report(child, pidfd.get());
  return nullptr;
}

void announce_ready(Stage& s) {
  GateReport ready;
  ready.kind = GateReport::kReady;
  ready.uid = s.identity.uid;
  ready.gid = s.identity.gid;
  ready.group_count = s.identity.group_count;
  for (u32 i = 0; i < s.identity.group_count; ++i) ready.groups[i] = s.identity.groups[i];
  s.report(ready);
  wait_for_release(s);
}

void announce_executed(Stage& s) {
  GateReport executed;
  executed.kind = GateReport::kExecuted;
  s.report(executed);
  _exit(0);
}

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

void make_view(Stage& s, const String& point, const String& cgroup_root) {
  copy_host_tree(s);
  show_cgroup2(s, cgroup_root);
  s.at(Step::kMount);
  int fs = s.check(sys::fsopen("tmpfs"));
  s.check(sys::fsconfig_string(fs, "mode", "0755"));
  s.check(sys::fsconfig_create(fs));
  int mount = s.check(sys::fsmount(fs, uapi::kMountAttrNosuid | uapi::kMountAttrNodev));
  close(fs);
  s.check(sys::move_mount_at(mount, point.c_str()));
  close(mount);
  s.check(chdir(point.c_str()));
  umask(022);
}

void make_parts(Stage& s, const String& point, const String& cgroup_root) {
  constexpr unsigned kClone = uapi::kOpenTreeClone | unsigned{uapi::kAtEmptyPath | uapi::kAtRecursive};
  s.at(Step::kAttachRoot);
  // with a user namespace the root is a mount that is attached nowhere already
  const bool detached = s.has_user_namespace();
  int root = detached ? s.root : s.check(sys::open_tree(s.root, "", kClone));
  s.check(sys::setns(s.host_mounts, uapi::kCloneNewns));
  make_view(s, point, cgroup_root);
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
}

}  // namespace caisson::monitor
