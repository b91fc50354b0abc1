// Changes of a cgroup in use that are made whole or not at all.
#include <fcntl.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/cgroup_update.h"
#include "core/path.h"
#include "core/systemd.h"
#include "core/words.h"

namespace caisson {
namespace {

constexpr size_t kValueMax = 4096;
constexpr int kOomRoundsMax = 8;

// A write that brings back what a file held.
struct Saved {
  String file;
  String value;
  String otherwise;  // where the kernel refuses the value; "": nothing
};

// A line that takes away what one for this device has set, in the files that hold a line for each; "" for other files.
string_view unset_line(string_view file) {
  if (file == "io.max") return " rbps=max wbps=max riops=max wiops=max";
  if (file == "io.weight" || file == "io.bfq.weight") return " default";
  return {};
}

string_view first_word(string_view text) { return part(text, 0, text.find_first_of(" \n")); }

// What `file` holds now, as the writes that bring it back; the kernel takes one line at a time.
void save(int cgroup, const CgroupLimit& limit, Vec<Saved>& saved) {
  for (const Saved& known : saved)
    if (known.file.view() == limit.file && unset_line(limit.file).empty()) return;
  char text[kValueMax];
  auto value = cgroup_read(cgroup, limit.file, text);
  if (!value) return;  // not there, or only written: nothing to bring back
  if (value->empty()) {
    // A cpuset that holds processes cannot be made empty again (ENOSPC): then it gets what it had by having none.
    String effective(limit.file);
    effective.append(".effective");
    char all[kValueMax];
    auto had = cgroup_read(cgroup, effective.c_str(), all);
    saved.push({String(limit.file), String("\n"), had ? String(*had) : String()});
    return;
  }
  const string_view unset = unset_line(limit.file);
  string_view rest = *value;
  bool listed = false;
  do {
    const size_t end = rest.find('\n');
    const string_view line = part(rest, 0, end);
    rest = end == string_view::npos ? string_view() : part(rest, end + 1);
    listed = listed || first_word(line) == first_word(limit.value);
    if (unset.empty() || first_word(line) == first_word(limit.value))
      saved.push({String(limit.file), String(line), String()});
  } while (!rest.empty());
  if (unset.empty() || listed || first_word(limit.value).find(':') == string_view::npos) return;
  String line(first_word(limit.value));
  saved.push({String(limit.file), static_cast<String&&>(line.append(unset)), String()});
}

bool write_back(int cgroup, const Saved& saved) {
  if (cgroup_write(cgroup, saved.file.c_str(), saved.value)) return true;
  return !saved.otherwise.empty() && cgroup_write(cgroup, saved.file.c_str(), saved.otherwise);
}

// The newest first; twice, since one limit may be held up by another (cpu.max.burst by cpu.max).
void put_back(int cgroup, const Vec<Saved>& saved, String& failed) {
  Vec<const Saved*> again;
  for (size_t i = saved.size(); i-- > 0;)
    if (!write_back(cgroup, saved[i])) again.push(&saved[i]);
  for (const Saved* one : again)
    if (!write_back(cgroup, *one)) failed.append(' ').append(one->file);
}

Error with_failed(const Error& error, const String& failed) {
  if (failed.empty()) return error;
  String object(error.object);
  object.append(" (not put back:").append(failed).append(")");
  return Error(error.err, error.call, object);
}

struct Adjusted {
  Fd file;
  String before;
};

// Sets it for one process unless it has it. False: it is gone, is elsewhere by now, or has the value.
Result<bool> adjust(int pid, string_view cgroup_name, string_view value, Vec<Adjusted>& done) {
  String path("/proc/");
  path.append_u64(static_cast<u64>(pid));
  Fd process(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!process) return false;
  char text[kValueMax];
  // what this directory stands for is one process, whoever gets its number later
  Fd place(openat(process.get(), "cgroup", O_RDONLY | O_CLOEXEC));
  if (!place) return false;
  auto cgroups = read_small(place.get(), text, "cgroup");
  if (!cgroups || cgroups->find(cgroup_name) == string_view::npos) return false;
  Fd file(openat(process.get(), "oom_score_adj", O_RDWR | O_CLOEXEC));
  if (!file) return errno == ENOENT || errno == ESRCH ? Result<bool>(false) : Error::last("openat", "oom_score_adj");
  auto before = read_small(file.get(), text, "oom_score_adj");
  if (!before) return false;
  string_view old = *before;
  if (old.ends_with('\n')) old.remove_suffix(1);
  if (old == value) return false;
  if (pwrite(file.get(), value.data(), value.size(), 0) < 0) {
    if (errno == ESRCH) return false;
    return Error::last("write", "oom_score_adj");
  }
  done.push({static_cast<Fd&&>(file), String(old)});
  return true;
}

Status adjust_all(int cgroup, string_view name, string_view value, Vec<Adjusted>& done) {
  // what is forked meanwhile has its parent's old value: until nobody is found that has another one
  for (int round = 0; round < kOomRoundsMax; ++round) {
    bool changed = false;
    for (const int pid : CAISSON_TRY(cgroup_processes(cgroup)))
      if (CAISSON_TRY(adjust(pid, name, value, done))) changed = true;
    if (!changed) break;
  }
  return ok();
}

}  // namespace

Status change_cgroup(int cgroup, string_view name, span<const CgroupLimit> limits, const int* oom_score_adj) {
  Vec<Saved> saved;
  for (const CgroupLimit& limit : limits) save(cgroup, limit, saved);
  Vec<Adjusted> adjusted;
  const auto change = [&]() -> Status {
    CAISSON_TRY(apply_limits(cgroup, limits));
    if (oom_score_adj != nullptr) {
      String text;
      text.append_i64(*oom_score_adj);
      CAISSON_TRY(adjust_all(cgroup, name, text, adjusted));
    }
    if (!name.ends_with(".scope") || limits.empty()) return ok();
    SystemdBus bus = CAISSON_TRY(SystemdBus::connect(false));
    return bus.set_properties(name, limits);
  };
  const Status changed = change();
  if (changed) return ok();
  String failed;
  for (const Adjusted& one : adjusted)
    if (pwrite(one.file.get(), one.before.c_str(), one.before.size(), 0) < 0 && errno != ESRCH)
      failed.append(" oom_score_adj");
  put_back(cgroup, saved, failed);
  return with_failed(changed.error(), failed);
}

}  // namespace caisson
