// The hooks that the caller of a birth runs in its own namespaces: prestart and createRuntime while the birth is held
// (GateReport::kHeld), poststart and poststop. createContainer and startContainer are run by the process itself.
#pragma once

#include "core/plan.h"
#include "core/result.h"
#include "core/text.h"

namespace caisson {

// Runs the plan's hook of that index to its end; the rest as of run_hooks. `cancel` as of Program.
Status run_hook(const PlanView& plan, u32 index, int state, int directory, int cancel = -1);

// Runs the hooks of one kind in their order, each to its end; the first that fails ends it. `state` is a memfd with the
// container's state as JSON, `directory` their working directory (the bundle), or -1 for "/". Blocks.
// Errors: call "hook", the object says which, why, and what it wrote last.
Status run_hooks(const PlanView& plan, HookKind kind, int state, int directory);

// The sentence for a hook that failed: "createRuntime hook #1 "/usr/bin/x": exit status 3: what it wrote".
// `err` as of ProgramEnd; `output` is bounded and may hold anything.
void describe_hook(const PlanView& plan, u32 index, int err, int status, string_view output, String& out);

}  // namespace caisson
