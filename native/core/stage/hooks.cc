// The hooks that the container's own process runs: createContainer before pivot_root(2), startContainer before exec.
#include <signal.h>

#include "core/program.h"
#include "core/stage/stage.h"

namespace caisson {

namespace {

[[noreturn]] void fail_hook(Stage& s, const ProgramEnd& end) {
  GateReport message;
  message.kind = GateReport::kFailed;
  message.step = static_cast<u32>(Step::kHook);
  message.err = end.err != 0 ? end.err : ECHILD;
  message.pid = end.status;
  message.index = s.index;
  static_assert(ProgramEnd::kOutputMax < sizeof message.found);
  memcpy(message.found, end.output, end.output_size);
  s.report(message);
  _exit(1);
}

}  // namespace

void run_own_hooks(Stage& s, HookKind kind) {
  span<const HookEntry> hooks = s.plan->hooks();
  char** next = s.hooks;
  for (u32 i = 0; i < hooks.size(); ++i) {
    const HookEntry& hook = hooks[i];
    char** argv = next;
    next += hook.args + hook.env + 2;
    if (hook.kind != kind) continue;
    s.at(Step::kHook, i);
    if (s.state < 0) s.fail(EBADF);  // a caller that has no state to tell cannot start what has hooks
    signal(SIGCHLD, SIG_DFL);        // ignored by the caller, it would take the hook's exit status away
    Program process;
    process.path = s.plan->c_str(hook.path);
    process.argv = argv;
    process.envp = argv + hook.args + 1;
    process.input = s.state;
    process.timeout = hook.timeout;
    ProgramEnd end;
    run_program(process, end);
    if (end.failed()) fail_hook(s, end);
  }
}

}  // namespace caisson
