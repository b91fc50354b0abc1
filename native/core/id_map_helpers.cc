// newuidmap(1) and newgidmap(1): who has no privileges gets its ids through them.
#include <fcntl.h>
#include <unistd.h>

#include "core/program.h"
#include "core/user_namespace.h"

namespace caisson {

namespace {

constexpr string_view kDefaultPath = "/usr/local/bin:/usr/bin:/bin";

// Directories that are not absolute are passed over: the program is set-uid, and must be the system's.
Result<String> find_program(string_view name) {
  const char* given = getenv("PATH");
  string_view path = given != nullptr && *given != '\0' ? string_view(given) : kDefaultPath;
  while (!path.empty()) {
    const size_t end = path.find(':');
    const string_view directory = part(path, 0, end);
    path = end == path.npos ? string_view() : part(path, end + 1);
    if (!directory.starts_with('/')) continue;
    String candidate(directory);
    candidate.append('/').append(name);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return Error(ENOENT, "execve", name);
}

Status run_helper(string_view name, int pid, span<const IdMapping> map) {
  const String program = CAISSON_TRY(find_program(name));
  Vec<String> words;
  words.push(String(name));
  auto number = [&](u64 value) { words.push(static_cast<String&&>(String().append_u64(value))); };
  number(static_cast<u64>(pid));
  for (const IdMapping& line : map) {
    number(line.container);
    number(line.host);
    number(line.size);
  }
  Vec<char*> argv;
  for (const String& word : words) argv.push(const_cast<char*>(word.c_str()));
  argv.push(nullptr);
  char* none[] = {nullptr};
  Fd empty(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!empty) return Error::last("open", "/dev/null");
  Program process;
  process.path = program.c_str();
  process.argv = argv.data();
  process.envp = none;
  process.input = empty.get();
  process.timeout = 30;
  ProgramEnd end;
  run_program(process, end);
  if (!end.failed()) return ok();
  String text(name);
  text.append(": ").append(string_view(end.output, end.output_size));
  return Error(end.err != 0 ? end.err : EPERM, "write", text);
}

bool is_own(span<const IdMapping> map, u32 id) { return map.size() == 1 && map[0].size == 1 && map[0].host == id; }

Status deny_setgroups(int pid) {
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(pid)).append("/setgroups");
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return Error::last("open", path);
  if (write(fd.get(), "deny", 4) != 4) return Error::last("write", path);
  return ok();
}

}  // namespace

Status grant_id_maps(int pid, const PlanView& plan) {
  const bool own_group = is_own(plan.gid_map(), getegid());
  if (own_group) CAISSON_TRY(deny_setgroups(pid));
  if (is_own(plan.uid_map(), geteuid()))
    CAISSON_TRY(write_id_map(pid, "uid_map", plan.uid_map()));
  else
    CAISSON_TRY(run_helper("newuidmap", pid, plan.uid_map()));
  if (own_group) return write_id_map(pid, "gid_map", plan.gid_map());
  return run_helper("newgidmap", pid, plan.gid_map());
}

}  // namespace caisson
