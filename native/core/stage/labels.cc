// Labels of a security module that the process takes on when it executes: proc_pid_attr(5).
#include <sys/vfs.h>

#include "core/stage/stage.h"

namespace caisson {

namespace {

void write_attribute(Stage& s, const char* path, string_view verb, string_view label) {
  // Not even a mount of the host's own inside /proc is crossed: a label that is written to another file is lost without
  // a sign (CVE-2019-16884, CVE-2025-52881).
  constexpr u64 kStrict = uapi::kResolveBeneath | uapi::kResolveNoMagiclinks | uapi::kResolveNoXdev;
  int fd = sys::openat2(s.proc, path, O_WRONLY, 0, kStrict);
  // A kernel without the module has no directory for it; one that was booted without it knows no such writer.
  if (fd < 0) s.fail(errno == ENOENT ? EOPNOTSUPP : errno);
  char text[kPlanPathMax + 8];  // one write: each is a request of its own
  memcpy(text, verb.data(), verb.size());
  memcpy(text + verb.size(), label.data(), label.size());
  const size_t size = verb.size() + label.size();
  ssize_t n = write(fd, text, size);
  if (n < 0) s.fail(errno == EINVAL && s.index == kLabelApparmor ? EOPNOTSUPP : errno);
  if (static_cast<size_t>(n) != size) s.fail(EIO);
  close(fd);
}

}  // namespace

void open_proc(Stage& s) {
  const ProcessEntry& process = s.plan->process();
  const bool clocks = (s.create & uapi::kCloneNewtime) != 0 && s.plan->kind() == PlanKind::kContainer;
  if (process.apparmor.length == 0 && process.selinux.length == 0 && !clocks) return;
  s.at(Step::kPrepare);
  s.proc = s.check(open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct statfs fs = {};
  s.check(fstatfs(s.proc, &fs));
  struct stat st = {};
  s.check(fstat(s.proc, &st));
  if (static_cast<u64>(fs.f_type) != uapi::kProcSuperMagic || st.st_ino != uapi::kProcRootIno) s.fail(EXDEV);
  if (process.selinux.length == 0) return;
  // attr/exec is that of whichever module comes first.
  s.at(Step::kLabel, kLabelSelinux);
  if (statfs("/sys/fs/selinux", &fs) != 0 || static_cast<u64>(fs.f_type) != uapi::kSelinuxMagic) s.fail(EOPNOTSUPP);
}

void set_labels(Stage& s) {
  const ProcessEntry& process = s.plan->process();
  if (process.apparmor.length != 0) {
    s.at(Step::kLabel, kLabelApparmor);
    write_attribute(s, "thread-self/attr/apparmor/exec", "exec ", s.plan->text(process.apparmor));
  }
  if (process.selinux.length != 0) {
    s.at(Step::kLabel, kLabelSelinux);
    const string_view label = s.plan->text(process.selinux);
    write_attribute(s, "thread-self/attr/keycreate", "", label);  // else it may not read its own session keyring
    write_attribute(s, "thread-self/attr/exec", "", label);
  }
  if (s.proc >= 0) close(s.proc);
}

}  // namespace caisson
