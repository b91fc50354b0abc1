#include <stdlib.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "oci/files.h"
#include "oci/listing.h"
#include "oci/programs.h"
#include "oci/state.h"

namespace caisson::oci {

namespace {

constexpr size_t kOutputMax = size_t{16} << 20;

constexpr Flag kFlags[] = {{"format", 'f', FlagKind::kText, "table (default) or json"}};

Outcome<Vec<int>> processes_of(const State& state) {
  const Fd cgroup = OCI_TRY(open_placement(state.placement));
  if (cgroup) return OCI_TRY(cgroup_processes(cgroup.get()));
  Vec<int> one;  // without a cgroup of its own only the first process is known
  if (open_process(state)) one.push(state.pid);
  return one;
}

string_view take_word(string_view& rest) {
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  const string_view word = part(rest, 0, rest.find(' '));
  rest.remove_prefix(word.size());
  return word;
}

// The n-th column of a line of ps(1).
string_view column(string_view line, size_t n) {
  string_view word;
  for (size_t i = 0; i <= n; ++i) word = take_word(line);
  return word;
}

Outcome<size_t> pid_column(string_view title) {
  for (size_t i = 0; !title.empty(); ++i)
    if (take_word(title) == "PID") return i;
  return Fault::text_of("couldn't find PID field in ps output");
}

Outcome<int> table(const Options& options, const Vec<int>& pids) {
  Vec<string_view> args;
  args.push("ps");
  for (size_t i = 1; i < options.operands(); ++i) args.push(options.operand(i));
  if (options.operands() < 2) args.push("-ef");
  const String output = OCI_TRY(program_output(args, kOutputMax));
  String shown;
  size_t at = 0;
  size_t pid_at = 0;
  for (string_view rest = output; !rest.empty(); ++at) {
    const string_view line = part(rest, 0, rest.find('\n'));
    rest.remove_prefix(line.size() < rest.size() ? line.size() + 1 : line.size());
    i64 pid = 0;
    bool ours = at == 0;
    if (at == 0)
      pid_at = OCI_TRY(pid_column(line));
    else if (parse_number(column(line, pid_at), pid))
      for (const int each : pids) ours = ours || each == pid;
    if (ours) shown.append(line).append('\n');
  }
  OCI_TRY(print(shown));
  return 0;
}

Outcome<int> run(const Call& call) {
  const string_view format = call.options.text("format", "table");
  if (format != "table" && format != "json") return Fault::text_of("invalid format option: ", format);
  Store store = OCI_TRY(open_store(call.globals, call.options.operand(0)));
  const Slot slot = OCI_TRY(store.find(call.options.operand(0)));
  const State state = OCI_TRY(load_state(slot));
  const Vec<int> pids = OCI_TRY(processes_of(state));
  if (format == "table") return table(call.options, pids);
  String out;
  JsonWriter json(out);
  json.begin_array();
  for (const int pid : pids) json.value(pid);
  json.end_array();
  OCI_TRY(print(out.append('\n')));
  return 0;
}

}  // namespace

constexpr Command kPs = {
    "ps", "list the processes of a container", "<container-id> [ps options]", 1, ~0u, FlagOrder::kFirstOperand, kFlags,
    run};

}  // namespace caisson::oci
