#include "oci/state.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/sys.h"

namespace caisson::oci {

namespace {

constexpr char kRecord[] = "state.json";
constexpr size_t kRecordMax = size_t{8} << 20;  // annotations may be as large as the configuration, and escaped

struct TextMember {
  string_view name;
  String State::*member;
};
constexpr TextMember kTexts[] = {
    {"ociVersion", &State::version}, {"id", &State::id},           {"bundle", &State::bundle},
    {"rootfs", &State::rootfs},      {"created", &State::created},
};

struct FlagMember {
  string_view name;
  bool State::*member;
};
constexpr FlagMember kFlags[] = {
    {"creating", &State::creating},
    {"sharesPids", &State::shares_pids},
    {"startNeedsPlan", &State::start_needs_plan},
    {"hasPoststop", &State::has_poststop},
};

bool is_frozen(const State& state) {
  Result<Fd> cgroup = open_placement(state.placement);
  return cgroup && *cgroup && cgroup_is_frozen(cgroup->get());
}

}  // namespace

string_view status_word(ContainerStatus status) {
  switch (status) {
    case ContainerStatus::kCreating:
      return "creating";
    case ContainerStatus::kCreated:
      return "created";
    case ContainerStatus::kRunning:
      return "running";
    case ContainerStatus::kPaused:
      return "paused";
    case ContainerStatus::kStopped:
      return "stopped";
  }
  return "";
}

String write_state(const State& state) {
  String text;
  JsonWriter json(text);
  json.begin_object().member("v", 1);
  for (const TextMember& each : kTexts) json.member(each.name, (state.*each.member).view());
  json.member("pid", state.pid).member("startTime", state.start_time);
  for (const FlagMember& each : kFlags) json.member(each.name, state.*each.member);
  write_placement(json.key("placement"), state.placement);
  write_rdt(json.key("rdt"), state.rdt);
  if (!state.annotations.empty()) json.key("annotations").raw(state.annotations);
  json.end_object();
  text.append('\n');
  return text;
}

Result<State> parse_state(string_view text) {
  const JsonDocument document = CAISSON_TRY(JsonDocument::parse(text, {kRecordMax, 64, 1'000'000}));
  const JsonValue& root = document.root();
  if (root["v"].i64_or(0) != 1) return Error(EINVAL, "parse", "state.json is not a record of this program");
  State state;
  for (const TextMember& each : kTexts) state.*each.member = String(root[each.name].string_or({}));
  const i64 pid = root["pid"].i64_or(-1);
  if (pid < 0 || pid > INT32_MAX || state.id.empty()) return Error(EINVAL, "parse", "state.json: pid or id is missing");
  state.pid = static_cast<int>(pid);
  state.start_time = root["startTime"].u64_or(0);
  for (const FlagMember& each : kFlags) state.*each.member = root[each.name].bool_or(false);
  state.placement = CAISSON_TRY(read_placement(root["placement"]));
  state.rdt = CAISSON_TRY(read_rdt(root["rdt"]));
  if (root["annotations"].is_object()) JsonWriter(state.annotations).value(root["annotations"]);
  return state;
}

Status save_state(const Slot& slot, const State& state) { return slot.replace(kRecord, write_state(state)); }

Outcome<State> load_state(const Slot& slot) {
  Result<String> text = slot.read(kRecord, kRecordMax);
  if (!text && text.error().err == ENOENT) return no_such_container(slot.id());
  if (!text) return text.error();
  return OCI_TRY(parse_state(*text));
}

Outcome<bool> is_abandoned(const Slot& slot) {
  Result<String> text = slot.read(kRecord, kRecordMax);
  if (!text && text.error().err == ENOENT) return true;
  if (!text) return text.error();
  return OCI_TRY(parse_state(*text)).creating;
}

Result<u64> process_start_time(int pid) {
  String path(string_view("/proc/"));
  path.append_i64(pid).append("/stat");
  Fd file(openat(AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t n = file ? read(file.get(), text, sizeof text) : -1;
  if (n <= 0) return Error(ESRCH, "read", path);
  // "pid (name) S ppid ...": the name may hold anything, also parentheses; what follows the last one does not.
  const string_view stat(text, static_cast<size_t>(n));
  const size_t close = stat.rfind(')');
  string_view rest = close == string_view::npos ? string_view() : part(stat, close + 2);
  if (rest.empty() || rest[0] == 'Z' || rest[0] == 'X') return Error(ESRCH, "read", path);
  for (int field = 3; field < 22; ++field) {
    const size_t space = rest.find(' ');
    if (space == string_view::npos) return Error(EINVAL, "read", path);
    rest.remove_prefix(space + 1);
  }
  u64 ticks = 0;
  for (; !rest.empty() && rest[0] >= '0' && rest[0] <= '9'; rest.remove_prefix(1))
    ticks = ticks * 10 + static_cast<u64>(rest[0] - '0');
  return ticks;
}

Result<Fd> open_process(const State& state) {
  if (state.pid <= 0) return Error(ESRCH, "pidfd_open", state.id);
  Fd pidfd(sys::pidfd_open(state.pid));
  if (!pidfd) return Error::last("pidfd_open", state.id);
  // Read after the descriptor is held: were the number another's by now, its start time would be another too.
  Result<u64> start = process_start_time(state.pid);
  if (!start) return start.error();
  if (*start != state.start_time) return Error(ESRCH, "pidfd_open", state.id);
  return pidfd;
}

ContainerStatus status_of(const Slot& slot, const State& state) {
  if (!open_process(state))
    return state.creating && state.pid == 0 ? ContainerStatus::kCreating : ContainerStatus::kStopped;
  if (state.creating) return ContainerStatus::kCreating;
  if (is_frozen(state)) return ContainerStatus::kPaused;
  return slot.has("start") ? ContainerStatus::kCreated : ContainerStatus::kRunning;
}

void append_state(JsonWriter& json, const State& state, ContainerStatus status, bool extra, string_view owner) {
  json.begin_object().member("ociVersion", state.version).member("id", state.id);
  json.member("pid", status == ContainerStatus::kStopped ? 0 : state.pid);
  json.member("status", status_word(status)).member("bundle", state.bundle);
  if (extra) json.member("rootfs", state.rootfs).member("created", state.created);
  if (!state.annotations.empty()) json.key("annotations").raw(state.annotations);
  if (extra) json.member("owner", owner);
  json.end_object();
}

String hook_state(const State& state, ContainerStatus status) {
  String text;
  JsonWriter json(text);
  append_state(json, state, status, false);
  return text;
}

PlacementRecord copy(const PlacementRecord& record) {
  return {record.driver, String(record.path.view()), String(record.unit.view()), record.user_bus};
}

}  // namespace caisson::oci
