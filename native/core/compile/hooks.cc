// hooks: runtime-spec config.md "POSIX-platform Hooks".
#include "core/compile.h"
#include "core/compile/context.h"

namespace caisson {

namespace compile {

namespace {

constexpr u32 kHooksMax = 256;  // of one kind
constexpr u32 kTextsMax = 4096;
constexpr u32 kTextMax = 131'071;  // MAX_ARG_STRLEN without the NUL, execve(2)

Status compile_hook(Context& context, const Property& entry, HookKind kind) {
  CAISSON_TRY(entry.object());
  HookEntry hook;
  hook.kind = kind;
  hook.first = context.plan.count(Section::kHookTexts);
  const string_view path = CAISSON_TRY(entry["path"].absolute_path());
  hook.path = context.plan.string(path);
  const Property args = entry["args"];
  hook.args = CAISSON_TRY(args.list(kTextsMax));
  for (u32 i = 0; i < hook.args; ++i)
    context.plan.add_text(Section::kHookTexts, CAISSON_TRY(args.at(i).text(kTextMax)));
  if (hook.args == 0) {
    context.plan.add_text(Section::kHookTexts, path);
    hook.args = 1;
  }
  const Property env = entry["env"];
  hook.env = CAISSON_TRY(env.list(kTextsMax));
  for (u32 i = 0; i < hook.env; ++i) context.plan.add_text(Section::kHookTexts, CAISSON_TRY(env.at(i).text(kTextMax)));
  if (const Property timeout = entry["timeout"]; timeout.present()) {
    hook.timeout = static_cast<u32>(CAISSON_TRY(timeout.integer(1, INT32_MAX)));  // "MUST be greater than zero"
  }
  context.plan.add(Section::kHooks, hook);
  return ok();
}

}  // namespace

Status compile_hooks(Context& context, const Property& hooks) {
  for (u32 k = 0; k < static_cast<u32>(HookKind::kCount); ++k) {
    const auto kind = static_cast<HookKind>(k);
    const Property list = hooks[hook_name(kind)];
    const u32 count = CAISSON_TRY(list.list(kHooksMax));
    for (u32 i = 0; i < count; ++i) CAISSON_TRY(compile_hook(context, list.at(i), kind));
    // They look for the root at its path on the host, and for the host's own files beside it.
    const bool before_pivot =
        kind == HookKind::kPrestart || kind == HookKind::kCreateRuntime || kind == HookKind::kCreateContainer;
    if (count != 0 && before_pivot) context.plan.root().flags |= kRootInPlace;
  }
  return ok();
}

}  // namespace compile

Result<Compiled> compile_hooks(string_view json) {
  const JsonDocument document = CAISSON_TRY(JsonDocument::parse(json));
  const compile::Property input(document.root());
  CAISSON_TRY(input.object());
  compile::Context context(PlanKind::kHooks);
  CAISSON_TRY(compile::compile_hooks(context, CAISSON_TRY(input.object("hooks"))));
  context.plan.root().flags = 0;
  Compiled compiled;
  compiled.plan = CAISSON_TRY(context.plan.finish());
  return compiled;
}

}  // namespace caisson
