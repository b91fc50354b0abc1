// Joining namespaces by descriptor (setns(2)) and becoming root of a user namespace.
#include "core/stage/stage.h"

namespace caisson {

void join_namespace(Stage& s, NamespaceType type) {
  int fd = s.ns(type);
  if (fd < 0) return;
  s.at(Step::kJoinNamespace, static_cast<u32>(type));
  s.check(sys::setns(fd, namespace_flag(type)));
}

void become_root(Stage& s) {
  s.at(Step::kMapUser);
  // The groups of the host's root mean nothing here, and none of them may remain. Without privileges the namespace may
  // deny setgroups(2) for good (user_namespaces(7)); the caller's own groups then stay.
  if (sys::setgroups(0, nullptr) != 0 && !(s.rootless && errno == EPERM)) s.fail(errno);
  s.check(sys::setresgid(0));
  s.check(sys::setresuid(0));
  // The change of credentials made the process what fs.suid_dumpable says; never dumpable before exec (CVE-2019-5736).
  s.check(sys::prctl(uapi::kPrSetDumpable, 0));
}

}  // namespace caisson
