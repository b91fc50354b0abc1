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

Status run_hooks(const PlanView& plan, HookKind kind, int state, int directory) {
  span<const HookEntry> hooks = plan.hooks();
  for (u32 i = 0; i < hooks.size(); ++i) {
    if (hooks[i].kind != kind) continue;
    Vec<char*> pointers;
    auto list = [&](span<const Str> texts) {
      for (Str each : texts) pointers.push(const_cast<char*>(plan.c_str(each)));
      pointers.push(nullptr);
    };
    list(plan.hook_args(hooks[i]));
    list(plan.hook_env(hooks[i]));
    Program process;
    process.path = plan.c_str(hooks[i].path);
    process.argv = pointers.data();
    process.envp = pointers.data() + hooks[i].args + 1;
    process.input = state;
    process.directory = directory;
    process.timeout = hooks[i].timeout;
    ProgramEnd end;
    run_program(process, end);
    if (!end.failed()) continue;
    String text;
    describe_hook(plan, i, end.err, end.status, {end.output, end.output_size}, text);
    return Error(end.err != 0 ? end.err : ECHILD, "hook", text);
  }
  return ok();
}

}  // namespace caisson
