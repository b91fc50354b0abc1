#include "core/seccomp.h"

#include "core/seccomp_profile.h"

namespace caisson {

Result<SeccompProgram> compile_seccomp(const JsonValue& linux_seccomp, u32 native) {
  const seccomp::Profile profile = CAISSON_TRY(seccomp::read_profile(linux_seccomp));
  SeccompProgram program;
  program.flags = profile.flags;
  program.notify = profile.notify;
  CAISSON_TRY(seccomp::generate(profile, native, program.filter));
  return program;
}

}  // namespace caisson
