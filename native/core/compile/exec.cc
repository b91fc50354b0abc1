// A process that joins a container: its own arguments, identity and filter; all else is the container's.
#include "core/compile.h"
#include "core/compile/context.h"

namespace caisson {

Result<Compiled> compile_exec(string_view json) {
  const JsonDocument document = CAISSON_TRY(JsonDocument::parse(json));
  const compile::Property input(document.root());
  CAISSON_TRY(input.object());
  compile::Context context(PlanKind::kExec);
  CAISSON_TRY(compile::compile_id(context, input));
  CAISSON_TRY(compile::compile_process(context, input["process"]));
  if (CAISSON_TRY(input["setHome"].flag_or(false))) context.plan.process().flags |= kProcessSetHome;
  CAISSON_TRY(compile::compile_memory_policy(context, input["memoryPolicy"]));
  CAISSON_TRY(compile::compile_personality(context, input["personality"]));
  CAISSON_TRY(compile::compile_identity(context, input["process"], input["user"]));
  CAISSON_TRY(compile::compile_filter(context, input["seccomp"]));
  Compiled compiled;
  compiled.plan = CAISSON_TRY(context.plan.finish());
  compiled.warnings = static_cast<Vec<String>&&>(context.warnings);
  return compiled;
}

}  // namespace caisson
