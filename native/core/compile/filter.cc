// linux.seccomp as the program of core/seccomp, one 64-bit word an instruction.
#include <string.h>

#include "core/compile/context.h"
#include "core/seccomp.h"

namespace caisson::compile {

Status compile_filter(Context& context, const Property& seccomp) {
  if (!seccomp.present()) return ok();
  CAISSON_TRY(seccomp.object());
  for (const string_view key : {"listenerPath", "listenerMetadata"})
    if (!CAISSON_TRY(seccomp[key].text_or({}, kPathMax)).empty())
      return seccomp[key].error(ENOTSUP, "listeners of notifications are not supported by this build");
  const SeccompProgram program = CAISSON_TRY(compile_seccomp(seccomp.value()));
  if (program.notify) return seccomp.error(ENOTSUP, "SCMP_ACT_NOTIFY is not supported by this build");
  context.plan.process().seccomp_flags = program.flags;
  for (const SockFilter& instruction : program.filter) {
    u64 word = 0;
    static_assert(sizeof instruction == sizeof word);
    memcpy(&word, &instruction, sizeof word);
    context.plan.add(Section::kSeccomp, word);
  }
  return ok();
}

}  // namespace caisson::compile
