#include "core/resctrl.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mountinfo.h"
#include "core/path.h"
#include "core/resctrl_files.h"

namespace caisson {
namespace {

// An error of a write or mkdir, with what the kernel says about it.
Error explained(int root, const Error& error) {
  char text[512];
  auto status = rdt_read(root, "info/last_cmd_status", text);
  String object(error.object);
  if (status && *status != "ok" && !status->empty()) object.append(": ").append(*status);
  return Error(error.err, error.call, object);
}

// The file or directory `name` of the record's class: "clos/name", or "name" at the root.
String in_group(string_view group, string_view name) {
  String path;
  if (group != "/") path.append(group).append('/');
  path.append(name);
  return path;
}

String join_lines(span<const string_view> lines) {
  String text;
  for (const string_view line : lines) text.append(line).append('\n');
  return text;
}

Vec<string_view> schemata_of(const PlanView& plan) {
  Vec<string_view> lines;
  for (const Str line : plan.rdt_schemata()) lines.push(plan.text(line));
  return lines;
}

Status write_schemata(int root, string_view group, span<const string_view> lines) {
  auto written = rdt_write(root, in_group(group, "schemata"), join_lines(lines));
  if (!written) return explained(root, written.error());
  return ok();
}

Status check_existing(int root, string_view group, span<const string_view> lines) {
  if (lines.empty()) return ok();
  char text[16 * 1024];
  const String file = in_group(group, "schemata");
  const string_view present = CAISSON_TRY(rdt_read(root, file, text));
  if (rdt_schemata_match(lines, present)) return ok();
  String object("linux.intelRdt: the class ");
  object.append(group).append(" exists with other schemata");
  return Error(EINVAL, "resctrl", object);
}

bool has_tasks(int root, string_view group) {
  char text[64];
  auto tasks = rdt_read(root, in_group(group, "tasks"), text);
  return !tasks ? tasks.error().err == EFBIG : !tasks->empty();
}

Status remove_directory(int root, const String& path) {
  if (unlinkat(root, path.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) return Error::last("rmdir", path);
  return ok();
}

}  // namespace

Result<Fd> open_resctrl() {
  MountinfoReader reader = CAISSON_TRY(MountinfoReader::open());
  for (;;) {
    const MountLine mount = CAISSON_TRY(reader.next());
    if (mount.type.empty())
      return Error(ENOENT, "mountinfo",
                   "linux.intelRdt: resctrl is not mounted (mount -t resctrl resctrl /sys/fs/resctrl)");
    if (mount.type != "resctrl" || mount.root != "/") continue;
    const String path = unescape_mount(mount.path);
    return open_at2(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY, 0, 0);
  }
}

Result<RdtRecord> rdt_create(int root, const PlanView& plan, string_view id) {
  RdtRecord record;
  const RdtEntry& entry = plan.head().rdt;
  if ((entry.flags & kRdtPresent) == 0) return record;
  const string_view named = plan.text(entry.clos);
  record.group = String(named.empty() ? id : named);
  if (record.group.view() != "/" && !is_file_name(record.group)) return Error(EINVAL, "resctrl", record.group);
  const Vec<string_view> lines = schemata_of(plan);
  Defer undo([&] { (void)rdt_remove(root, record); });  // the first error is the one to report
  record.present = true;
  if (record.group.view() == "/" || faccessat(root, record.group.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    CAISSON_TRY(check_existing(root, record.group, lines));
  } else if (!named.empty() && lines.empty()) {
    return Error(ENOENT, "resctrl", String("linux.intelRdt.closID: no class ").append(named));
  } else {
    if (mkdirat(root, record.group.c_str(), 0755) != 0) return explained(root, Error::last("mkdirat", record.group));
    record.made = true;
    if (!lines.empty()) CAISSON_TRY(write_schemata(root, record.group, lines));
  }
  if ((entry.flags & kRdtMonitoring) != 0) {
    if (!is_file_name(id)) return Error(EINVAL, "resctrl", id);
    record.monitor = String(id);
    const String path = in_group(record.group, String("mon_groups/").append(id));
    if (mkdirat(root, path.c_str(), 0755) != 0) return explained(root, Error::last("mkdirat", path));
    record.monitor_made = true;
  }
  undo.dismiss();
  return record;
}

Status rdt_assign(int root, const RdtRecord& record, int pid) {
  if (!record.present) return ok();
  String number;
  number.append_i64(pid);
  auto moved = rdt_write(root, in_group(record.group, "tasks"), number);
  if (!moved) return explained(root, moved.error());
  if (record.monitor.empty()) return ok();
  String name("mon_groups/");
  name.append(record.monitor).append("/tasks");
  auto monitored = rdt_write(root, in_group(record.group, name), number);
  if (!monitored) return explained(root, monitored.error());
  return ok();
}

Status rdt_update(int root, const RdtRecord& record, span<const string_view> schemata) {
  if (!record.present) return Error(EINVAL, "resctrl", "linux.intelRdt: the container has no class of its own");
  for (const string_view line : schemata) {
    if (line.find(':') == line.npos || line.find('\n') != line.npos)
      return Error(EINVAL, "resctrl", String("schema ").append(part(line, 0, 64)));
  }
  return write_schemata(root, record.group, schemata);
}

Status rdt_remove(int root, const RdtRecord& record) {
  if (!record.present) return ok();
  if (record.monitor_made) {
    String name("mon_groups/");
    CAISSON_TRY(remove_directory(root, in_group(record.group, name.append(record.monitor))));
  }
  if (!record.made || has_tasks(root, record.group)) return ok();
  return remove_directory(root, in_group("/", record.group));
}

void write_rdt(JsonWriter& out, const RdtRecord& record) {
  out.begin_object().member("present", record.present).member("group", record.group).member("made", record.made);
  out.member("monitor", record.monitor).member("monitorMade", record.monitor_made).end_object();
}

Result<RdtRecord> read_rdt(const JsonValue& value) {
  RdtRecord record;
  record.present = CAISSON_TRY(value["present"].boolean("intelRdt.present"));
  record.group = String(CAISSON_TRY(value["group"].string("intelRdt.group")));
  record.made = CAISSON_TRY(value["made"].boolean("intelRdt.made"));
  record.monitor = String(CAISSON_TRY(value["monitor"].string("intelRdt.monitor")));
  record.monitor_made = CAISSON_TRY(value["monitorMade"].boolean("intelRdt.monitorMade"));
  const bool root = record.group.view() == "/";
  if (record.present && !root && !is_file_name(record.group)) return Error(EINVAL, "parse", "intelRdt.group");
  if (record.made && root) return Error(EINVAL, "parse", "intelRdt.made");
  if (!record.monitor.empty() && !is_file_name(record.monitor)) return Error(EINVAL, "parse", "intelRdt.monitor");
  return record;
}

}  // namespace caisson
