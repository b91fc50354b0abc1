#include "core/hooks.h"

#include <errno.h>
#include <sys/wait.h>

#include "core/program.h"

namespace caisson {

void describe_hook(const PlanView& plan, u32 index, int err, int status, string_view output, String& out) {
  if (index >= plan.hooks().size()) return;
  const HookEntry& hook = plan.hooks()[index];
  u32 number = 0;
  for (u32 i = 0; i < index; ++i) number += plan.hooks()[i].kind == hook.kind ? 1 : 0;
  out.append(hook_name(hook.kind)).append(" hook #").append_u64(number).append(" \"");
  out.append(part(plan.text(hook.path), 0, 512)).append("\": ");
  if (err == ETIMEDOUT) {
    out.append("killed after its time-out of ").append_u64(hook.timeout).append(" s");
  } else if (err == ECANCELED) {
    out.append("killed with its container");
  } else if (err != 0) {
    out.append(strerror(err));
  } else if (WIFSIGNALED(status)) {
    out.append("killed by signal ").append_u64(static_cast<u64>(WTERMSIG(status)));
  } else {
    out.append("exit status ").append_u64(static_cast<u64>(WEXITSTATUS(status)));
  }
  while (!output.empty() && static_cast<u8>(output.back()) <= ' ') output.remove_suffix(1);
  if (output.empty()) return;
  out.append(": ");
  for (char c : output) out.append(c == '\n' ? ' ' : static_cast<u8>(c) < 0x20 || c == 0x7f ? '?' : c);
}

Status run_hook(const PlanView& plan, u32 index, int state, int directory, int cancel) {
  const HookEntry& hook = plan.hooks()[index];
  Vec<char*> pointers;
  auto list = [&](span<const Str> texts) {
    for (Str each : texts) pointers.push(const_cast<char*>(plan.c_str(each)));
    pointers.push(nullptr);
  };
  list(plan.hook_args(hook));
  list(plan.hook_env(hook));
  Program process;
  process.path = plan.c_str(hook.path);
  process.argv = pointers.data();
  process.envp = pointers.data() + hook.args + 1;
  process.input = state;
  process.directory = directory;
  process.timeout = hook.timeout;
  process.cancel = cancel;
  ProgramEnd end;
  run_program(process, end);
  if (!end.failed()) return ok();
  String text;
  describe_hook(plan, index, end.err, end.status, {end.output, end.output_size}, text);
  return Error(end.err != 0 ? end.err : ECHILD, "hook", text);
}

Status run_hooks(const PlanView& plan, HookKind kind, int state, int directory) {
  for (u32 i = 0; i < plan.hooks().size(); ++i) {
    if (plan.hooks()[i].kind == kind) CAISSON_TRY(run_hook(plan, i, state, directory));
  }
  return ok();
}

}  // namespace caisson
