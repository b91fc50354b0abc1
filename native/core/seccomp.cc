#include "core/seccomp.h"

#include "core/seccomp_profile.h"

namespace caisson {

Result<SeccompProgram> compile_seccomp(const JsonValue& linux_seccomp, u32 native) {
  const seccomp::Profile profile = CAISSON_TRY(seccomp::read_profile(linux_seccomp));
  SeccompProgram program;
  program.flags = profile.flags;
  program.notify = profile.notify;
  if (!program.notify) program.flags &= ~uapi::kSeccompFilterFlagWaitKillableRecv;
  // Both TSYNC and a listener return something: the kernel takes them together only with ESRCH for the former (5.7).
  if (program.notify && (program.flags & uapi::kSeccompFilterFlagTsync) != 0)
    program.flags |= uapi::kSeccompFilterFlagTsyncEsrch;
  CAISSON_TRY(seccomp::generate(profile, native, program.filter));
  return program;
}

}  // namespace caisson
