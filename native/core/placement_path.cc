// The pure half of placement.h: paths, records, and whose a cgroup is to be.
#include "core/cgroup.h"
#include "core/path.h"
#include "core/placement.h"
#include "core/uapi.h"
#include "core/user_namespace.h"

namespace caisson {
namespace {

constexpr string_view kDrivers[] = {"none", "cgroupfs", "systemd"};

// The host's uid of a uid of the container; ENOENT: there is none that is known.
Result<u32> host_uid(const PlanView& plan, int user_namespace) {
  const u32 uid = plan.process().uid;
  const NamespaceMode mode = plan.head().ns(NamespaceType::kUser).mode;
  if (mode == NamespaceMode::kHost) return uid;
  for (const IdMapping& line : plan.uid_map())
    if (uid >= line.container && uid - line.container < line.size) return line.host + (uid - line.container);
  if (mode == NamespaceMode::kNew || uid != 0 || user_namespace < 0)
    return Error(ENOENT, "uid_map", "process.user.uid");
  return CAISSON_TRY(root_ids_of(user_namespace)).uid;
}

}  // namespace

Result<String> cgroupfs_path(string_view cgroups_path, string_view id, string_view own) {
  String path;
  if (!cgroups_path.starts_with('/')) append_clean_path(path, part(own, 0, own.rfind('/')));
  // A relative path stays below where it starts, whatever ".." it holds.
  String below;
  append_clean_path(below, cgroups_path.empty() ? id : cgroups_path);
  path.append(below);
  if (below.empty()) return Error(EINVAL, "linux.cgroupsPath", "the root of the hierarchy is no container's cgroup");
  if (path.size() >= static_cast<size_t>(kCgroupPathMax)) return Error(ENAMETOOLONG, "linux.cgroupsPath", path);
  return path;
}

void write_placement(JsonWriter& out, const PlacementRecord& record) {
  out.begin_object();
  out.member("driver", kDrivers[static_cast<u8>(record.driver)]);
  out.member("path", record.path).member("unit", record.unit).member("userBus", record.user_bus);
  out.end_object();
}

Result<PlacementRecord> read_placement(const JsonValue& value) {
  PlacementRecord record;
  const string_view driver = CAISSON_TRY(value["driver"].string("cgroup.driver"));
  bool known = false;
  for (u32 i = 0; i < sizeof kDrivers / sizeof kDrivers[0]; ++i) {
    if (driver != kDrivers[i]) continue;
    record.driver = static_cast<CgroupDriver>(i);
    known = true;
  }
  if (!known) return Error(EINVAL, "parse", "cgroup.driver");
  record.path = String(CAISSON_TRY(value["path"].string("cgroup.path")));
  record.unit = String(CAISSON_TRY(value["unit"].string("cgroup.unit")));
  record.user_bus = CAISSON_TRY(value["userBus"].boolean("cgroup.userBus"));
  // What is removed by this path must never be the whole hierarchy.
  String clean;
  append_clean_path(clean, record.path);
  if (record.driver != CgroupDriver::kNone && (clean.empty() || clean.view() != record.path.view()))
    return Error(EINVAL, "parse", "cgroup.path");
  return record;
}

Result<bool> delegate_placement(int cgroup, const PlanView& plan, int user_namespace) {
  if (cgroup < 0 || plan.head().ns(NamespaceType::kCgroup).mode != NamespaceMode::kNew) return false;
  bool writable = false;
  for (const MountEntry& mount : plan.mounts()) {
    if (plan.text(mount.destination) != "/sys/fs/cgroup") continue;
    writable = plan.text(mount.fstype) == "cgroup2" && (mount.attr_set & uapi::kMountAttrRdonly) == 0;
  }
  if (!writable) return false;
  auto owner = host_uid(plan, user_namespace);
  if (!owner && owner.error().err == ENOENT) return false;
  if (!owner) return owner.error();
  if (*owner == geteuid()) return false;  // it is already
  CAISSON_TRY(cgroup_set_owner(cgroup, *owner));
  return true;
}

}  // namespace caisson
