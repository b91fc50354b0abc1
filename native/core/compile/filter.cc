// linux.seccomp as the program of core/seccomp, one 64-bit word an instruction, and where its listener goes.
#include <string.h>

#include "core/compile/context.h"
#include "core/seccomp.h"

namespace caisson::compile {

namespace {

// The agent's socket and what it is told. Without a rule that notifies both are ignored (config-linux.md "Seccomp").
Status compile_listener(Context& context, const Property& seccomp, bool notify) {
  constexpr u32 kMetadataMax = 64 * 1024;
  const Property path = seccomp["listenerPath"];
  const Property metadata = seccomp["listenerMetadata"];
  const bool named = !CAISSON_TRY(path.text_or({}, kPathMax)).empty();
  const string_view told = CAISSON_TRY(metadata.text_or({}, kMetadataMax));
  if (!told.empty() && !named) return metadata.error(EINVAL, "needs listenerPath");
  if (!notify) return ok();
  if (!named) return path.error(EINVAL, "is not set, but SCMP_ACT_NOTIFY is used");
  context.plan.head().listener_path = context.plan.string(CAISSON_TRY(host_path(context, path)));
  context.plan.head().listener_metadata = context.plan.string(told);
  return ok();
}

}  // namespace

Status compile_filter(Context& context, const Property& seccomp) {
  if (!seccomp.present()) return ok();
  CAISSON_TRY(seccomp.object());
  const SeccompProgram program = CAISSON_TRY(compile_seccomp(seccomp.value()));
  CAISSON_TRY(compile_listener(context, seccomp, program.notify));
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
