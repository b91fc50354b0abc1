// process but for its identity: runtime-spec config.md "Process".
#include "core/compile/context.h"

namespace caisson::compile {

namespace {

constexpr u32 kArgsMax = 65'536;
constexpr u32 kLabelMax = 4'090;   // with "exec " before it, less than a page: what /proc/<pid>/attr takes
constexpr u32 kTextMax = 131'071;  // MAX_ARG_STRLEN without the NUL: 32 pages, execve(2)

Status compile_args(Context& context, const Property& args) {
  const u32 count = CAISSON_TRY(args.list(kArgsMax));
  if (count == 0) return args.error(EINVAL, "is empty: there is nothing to execute");
  for (u32 i = 0; i < count; ++i) context.plan.add_text(Section::kArgs, CAISSON_TRY(args.at(i).text(kTextMax)));
  if (args.at(0).value().string_or({}).empty())
    return args.at(0).error(EINVAL, "is empty: there is nothing to execute");
  return ok();
}

// The last entry of a name: a set of names by open addressing, so that thousands of entries (service links of a
// Kubernetes namespace) are no quadratic work.
class Names {
 public:
  explicit Names(u32 count) {
    while (slots_ < count * 2) slots_ *= 2;
    table_.reserve(slots_);
    for (u32 i = 0; i < slots_; ++i) table_.push({});
  }
  // Returns whether the name was absent, and adds it.
  bool add(string_view name) {
    u64 hash = 14695981039346656037u;
    for (const char c : name) hash = (hash ^ static_cast<u8>(c)) * 1099511628211u;
    for (u64 at = hash;; ++at) {
      string_view& slot = table_[at & (slots_ - 1)];
      if (slot == name) return false;
      if (!slot.empty()) continue;
      slot = name;
      return true;
    }
  }

 private:
  u32 slots_ = 16;
  Vec<string_view> table_;
};

// getenv(3) finds the first of two entries of one name and shells the last: only the last is passed on, so that all
// agree. An entry that is no NAME=value would take its value from elsewhere in some programs (CVE-2026-57231).
Status compile_env(Context& context, const Property& env) {
  const u32 count = CAISSON_TRY(env.list(kArgsMax));
  Names names(count);
  Vec<string_view> kept;
  kept.reserve(count);
  for (u32 i = count; i-- != 0;) {
    const Property at = env.at(i);
    const string_view entry = CAISSON_TRY(at.text(kTextMax));
    const size_t equals = entry.find('=');
    if (equals == 0 || equals == string_view::npos) {
      String text("'");
      append_shown(text, part(entry, 0, entry.find('=', 1)));
      context.warn(at, text.append("' is not NAME=value and is left out"));
      continue;
    }
    if (names.add(part(entry, 0, equals))) kept.push(entry);
  }
  while (!kept.empty()) {
    context.plan.add_text(Section::kEnv, kept.back());
    kept.pop();
  }
  return ok();
}

Status compile_terminal(Context& context, const Property& process) {
  if (!CAISSON_TRY(process["terminal"].flag_or(false))) return ok();  // consoleSize MUST be ignored then
  ProcessEntry& out = context.plan.process();
  out.flags |= kProcessTerminal;
  const Property size = CAISSON_TRY(process.object("consoleSize"));
  if (!size.present()) return ok();
  out.flags |= kProcessConsoleSize;
  out.rows = static_cast<u32>(CAISSON_TRY(size["height"].natural(UINT16_MAX)));  // struct winsize
  out.columns = static_cast<u32>(CAISSON_TRY(size["width"].natural(UINT16_MAX)));
  return ok();
}

}  // namespace

Result<Str> compile_label(Context& context, const Property& label) {
  const string_view text = CAISSON_TRY(label.text_or({}, kLabelMax));
  for (const char c : text)
    if (static_cast<u8>(c) < 0x20 || c == 0x7f) return label.invalid(text, "holds a control character");
  return context.plan.string(text);
}

Status compile_id(Context& context, const Property& input) {
  const string_view id = CAISSON_TRY(input["id"].text_or({}, kNameMax));
  for (const char c : id)
    if (static_cast<u8>(c) < 0x21 || c == 0x7f || c == '/')
      return input["id"].invalid(id, "is not the id of a container");
  context.plan.head().id = context.plan.string(id);
  if (CAISSON_TRY(input["newKeyring"].flag_or(true))) context.plan.process().flags |= kProcessNewKeyring;
  return ok();
}

// The specification requires a process only when the container is started; like runc and crun, the creation does.
Status compile_process(Context& context, const Property& process) {
  if (!process.present()) return process.error(EINVAL, "is missing");
  CAISSON_TRY(process.object());
  ProcessEntry& out = context.plan.process();
  CAISSON_TRY(compile_terminal(context, process));
  CAISSON_TRY(compile_args(context, process["args"]));
  CAISSON_TRY(compile_env(context, process["env"]));
  out.cwd = context.plan.string(CAISSON_TRY(process["cwd"].absolute_path()));
  if (CAISSON_TRY(process["noNewPrivileges"].flag_or(false))) out.flags |= kProcessNoNewPrivileges;
  if (const Property adj = process["oomScoreAdj"]; adj.present()) {
    out.oom_score_adj = static_cast<i32>(CAISSON_TRY(adj.integer(-1000, 1000)));
    out.flags |= kProcessOomScoreAdj;
  }
  out.apparmor = CAISSON_TRY(compile_label(context, process["apparmorProfile"]));
  out.selinux = CAISSON_TRY(compile_label(context, process["selinuxLabel"]));
  return compile_scheduling(context, process);
}

}  // namespace caisson::compile
