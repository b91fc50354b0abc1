#include "core/placement.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/device_attach.h"
#include "core/path.h"
#include "core/placement_walk.h"
#include "core/systemd.h"
#include "core/words.h"

namespace caisson {
namespace {

constexpr int kUndoTimeoutMs = 10'000;

// The root of the hierarchy. Looked for once: a command asks several times, and the mount stays.
Result<int> hierarchy() {
  static int root = -1;
  if (root < 0) root = CAISSON_TRY(open_cgroup_root()).dir.release();
  return root;
}

// What the root has: like the root itself, looked at once.
Result<string_view> root_controllers(int root) {
  static char text[1024];
  static string_view words;
  if (words.data() == nullptr) words = CAISSON_TRY(cgroup_read(root, "cgroup.controllers", text));
  return words;
}

// linux.cgroupsPath below the hierarchy's root. Where the caller is itself matters to a relative one only.
Result<String> path_of(const PlacementRequest& request) {
  if (request.cgroups_path.starts_with('/')) return cgroupfs_path(request.cgroups_path, request.id, "/");
  const String own = CAISSON_TRY(cgroup_path_of(0));
  return cgroupfs_path(request.cgroups_path, request.id, own);
}

bool no_permission(int err) { return err == EACCES || err == EPERM || err == EROFS; }

Result<Placement> unplaced(span<const CgroupLimit> limits, const Error& why) {
  if (limits.empty()) return Placement();
  String object(limits[0].file);
  object.append(": rootless needs no limits when no permission is granted for cgroups (")
      .append(why.object)
      .append(')');
  return Error(EACCES, "cgroup", object);
}

// A cgroup that was there before is taken as it is, if nobody lives in it.
Status check_free(int cgroup, string_view path) {
  const Vec<int> processes = CAISSON_TRY(cgroup_processes(cgroup));
  if (!processes.empty()) {
    String object("container's cgroup is not empty: ");
    object.append_u64(processes.size()).append(" process(es) found in ").append(path);
    return Error(EBUSY, "cgroup", object);
  }
  if (cgroup_is_frozen(cgroup)) return Error(EAGAIN, "cgroup", "container's cgroup unexpectedly frozen");
  return ok();
}

// To a cgroup that nobody else has attached anything to.
Status attach_first(int cgroup, const PlanView& plan, string_view path) {
  const Fd program = CAISSON_TRY(load_device_program(plan.device_program()));
  return attach_device_program(cgroup, program.get(), path, -1);
}

// `limits` are those of LimitPhase::kBeforeBirth.
Status limit(Placement& placement, const PlacementRequest& request, const PlanView& plan,
             span<const CgroupLimit> limits, bool fresh) {
  const int cgroup = placement.cgroup.get();
  CAISSON_TRY(apply_limits(cgroup, limits));
  if (fresh && plan.device_program().empty()) return ok();
  const string_view path = placement.record.path;
  auto attached =
      fresh ? attach_first(cgroup, plan, path) : replace_device_program(cgroup, plan.device_program(), path);
  // A user namespace keeps its processes from making nodes; what nodes there are is left to their permissions.
  if (!attached && request.rootless && no_permission(attached.error().err))
    placement.warned = !plan.device_program().empty();
  else if (!attached)
    return attached;
  return ok();
}

// May a process of ours be born in `path`? The kernel asks for write access to the cgroup.procs of the target and of
// the nearest ancestor that both share (cgroups(7) "Delegation containment").
bool may_enter(int root, string_view path) {
  auto own = cgroup_path_of(0);
  if (!own) return false;
  size_t shared = 0;
  for (size_t i = 0; i <= own->size() && i <= path.size(); ++i) {
    const bool ends = (i == own->size() || own->view()[i] == '/') && (i == path.size() || path[i] == '/');
    if (ends) shared = i;
    if (i == own->size() || i == path.size() || own->view()[i] != path[i]) break;
  }
  for (const size_t end : {shared, path.size()}) {
    String file(part(path, 0, end));
    file.append("/cgroup.procs");
    if (faccessat(root, file.c_str() + 1, W_OK, 0) != 0) return false;
  }
  return true;
}

Result<Placement> place_directory(const PlacementRequest& request, const PlanView& plan,
                                  span<const CgroupLimit> limits) {
  auto mounted = hierarchy();
  if (!mounted && request.rootless) return unplaced(limits, mounted.error());
  if (!mounted) return mounted.error();
  const int root = *mounted;
  Placement placement;
  placement.record.driver = CgroupDriver::kCgroupfs;
  placement.record.path = CAISSON_TRY(path_of(request));
  const Vec<string_view> needed = controllers_of(limits);
  const string_view controllers = CAISSON_TRY(root_controllers(root));
  auto walked = walk_cgroup(root, controllers, placement.record.path, needed, true);
  if (!walked && request.rootless && no_permission(walked.error().err)) return unplaced(limits, walked.error());
  if (!walked) return walked.error();
  placement.cgroup = static_cast<Fd&&>(walked->cgroup);
  placement.made = static_cast<String&&>(walked->made);
  Defer undo([&] { (void)undo_placement(placement); });  // the first error is the one to report
  if (request.rootless && !may_enter(root, placement.record.path)) {
    undo.dismiss();
    CAISSON_TRY(undo_placement(placement));
    return unplaced(limits, Error(EACCES, "cgroup", placement.record.path));
  }
  if (!walked->fresh) {
    auto free = check_free(placement.cgroup.get(), placement.record.path);
    if (!free) undo.dismiss();  // what lives there is not ours to kill
    if (!free) return free.error();
  }
  const Vec<CgroupLimit> early = limits_of_phase(limits, LimitPhase::kBeforeBirth);
  CAISSON_TRY(limit(placement, request, plan, early, walked->fresh));
  undo.dismiss();
  return placement;
}

Result<Placement> place_scope(const PlacementRequest& request, const PlanView& plan, span<const CgroupLimit> limits) {
  const SystemdScope scope = CAISSON_TRY(systemd_scope(request.cgroups_path, request.id, request.rootless));
  const int root = CAISSON_TRY(hierarchy());
  SystemdBus bus = CAISSON_TRY(SystemdBus::connect(request.rootless));
  PlaceholderProcess holder = CAISSON_TRY(start_placeholder());
  Placement placement;
  placement.placeholder = static_cast<Fd&&>(holder.pidfd);
  placement.record.driver = CgroupDriver::kSystemd;
  placement.record.user_bus = request.rootless;
  placement.record.unit.append(scope.unit);
  bool started = false;
  Defer undo([&] {
    (void)end_placeholder(placement.placeholder.get());  // the first error is the one to report
    if (started) (void)bus.stop_unit(scope.unit);
  });
  String description("caisson container ");
  description.append(request.id);
  const Vec<CgroupLimit> early = limits_of_phase(limits, LimitPhase::kBeforeBirth);
  CAISSON_TRY(bus.start_scope(scope, description, static_cast<u32>(holder.pid), early));
  started = true;
  placement.record.path = CAISSON_TRY(cgroup_path_of(holder.pid));
  const string_view path = placement.record.path;
  if (!path.ends_with(scope.unit) || path.size() == scope.unit.size() ||
      path[path.size() - scope.unit.size() - 1] != '/') {
    String object("unit ");
    object.append(scope.unit).append(": its process is in ").append(path);
    return Error(EIO, "systemd", object);
  }
  if (request.rootless && !may_enter(root, path)) {
    String object("unit ");
    object.append(scope.unit)
        .append(": no permission to enter it from here: start under the user's manager (systemd-run --user --scope)");
    return Error(EACCES, "cgroup", object);
  }
  const Vec<string_view> needed = controllers_of(limits);
  const string_view controllers = CAISSON_TRY(root_controllers(root));
  placement.cgroup = CAISSON_TRY(walk_cgroup(root, controllers, path, needed, false)).cgroup;
  CAISSON_TRY(limit(placement, request, plan, early, true));
  undo.dismiss();
  return placement;
}

// rmdir of the directories from that of `path` upwards to `top`, as far as they are empty.
void remove_empty(int root, string_view path, string_view top) {
  while (path.size() >= top.size()) {
    const String name(path);
    if (unlinkat(root, name.c_str() + 1, AT_REMOVEDIR) != 0 && errno != ENOENT) return;  // others have moved in
    path = part(path, 0, path.rfind('/'));
  }
}

}  // namespace

Result<Vec<String>> offered_controllers(const PlacementRequest& request) {
  Vec<String> offered;
  auto mounted = hierarchy();
  if (!mounted && request.rootless && !request.systemd) return offered;
  if (!mounted) return mounted.error();
  const int root = *mounted;
  Fd owner;
  if (!request.systemd && request.rootless) {
    const String path = CAISSON_TRY(path_of(request));
    auto granted = granting_cgroup(root, path);
    if (!granted && granted.error().err == EACCES) return offered;
    if (!granted) return granted.error();
    owner = granted.take();
  }
  char text[1024];
  const string_view words =
      owner ? CAISSON_TRY(cgroup_read(owner.get(), "cgroup.controllers", text)) : CAISSON_TRY(root_controllers(root));
  each_word(words, [&](string_view word) { offered.push(String(word)); });
  return offered;
}

Result<Placement> place(const PlacementRequest& request, const PlanView& plan) {
  const Vec<CgroupLimit> all = limits_of(plan);
  return request.systemd ? place_scope(request, plan, all) : place_directory(request, plan, all);
}

Error explain_birth(const Placement& placement, const Error& error) {
  if (error.err != EOPNOTSUPP || !placement.cgroup) return error;
  const Status domain = check_domain(placement.cgroup.get(), placement.record.path);
  return domain ? error : domain.error();
}

Status finish_placement(Placement& placement, const PlanView& plan) {
  const Vec<CgroupLimit> all = limits_of(plan);
  const Vec<CgroupLimit> late = limits_of_phase(all, LimitPhase::kAfterBirth);
  if (placement.cgroup && !late.empty()) CAISSON_TRY(update_placement(placement.record, placement.cgroup.get(), late));
  if (!placement.placeholder) return ok();
  CAISSON_TRY(end_placeholder(placement.placeholder.get()));
  placement.placeholder.reset();
  return ok();
}

Status undo_placement(Placement& placement) {
  if (placement.record.driver == CgroupDriver::kNone) return ok();
  if (placement.record.driver == CgroupDriver::kSystemd) {
    // The placeholder is in the cgroup: it is killed with all there is.
    CAISSON_TRY(remove_placement(placement.record, kUndoTimeoutMs));
    if (placement.placeholder) CAISSON_TRY(end_placeholder(placement.placeholder.get()));
    placement.placeholder.reset();
    return ok();
  }
  CAISSON_TRY(cgroup_kill(placement.cgroup.get()));
  CAISSON_TRY(cgroup_wait_empty(placement.cgroup.get(), kUndoTimeoutMs));
  placement.cgroup.reset();
  if (placement.made.empty()) return ok();  // it was there before
  const int root = CAISSON_TRY(hierarchy());
  CAISSON_TRY(cgroup_remove(root, placement.record.path.c_str()));
  remove_empty(root, placement.record.path, placement.made);
  return ok();
}

Result<Fd> open_placement(const PlacementRecord& record) {
  if (record.driver == CgroupDriver::kNone) return Fd();
  return cgroup_open(CAISSON_TRY(hierarchy()), record.path.c_str());
}

Status remove_placement(const PlacementRecord& record, int timeout_ms) {
  if (record.driver == CgroupDriver::kNone) return ok();
  const int root = CAISSON_TRY(hierarchy());
  if (record.driver == CgroupDriver::kCgroupfs) {
    // Most often nobody is left in it.
    if (unlinkat(root, record.path.c_str() + 1, AT_REMOVEDIR) == 0) return ok();
    return cgroup_destroy(root, record.path.c_str(), timeout_ms);
  }
  auto cgroup = cgroup_open(root, record.path.c_str());
  // systemd takes a scope's cgroup away with its last process, and the unit with it.
  if (!cgroup && cgroup.error().err == ENOENT) return ok();
  if (!cgroup) return cgroup.error();
  auto killed = cgroup_kill(cgroup->get());
  if (!killed && killed.error().err != ENODEV && killed.error().err != ENOENT) return killed;
  auto empty = cgroup_wait_empty(cgroup->get(), timeout_ms);
  if (!empty && empty.error().err == ETIMEDOUT) return Error(ETIMEDOUT, "cgroup.kill", record.path);
  SystemdBus bus = CAISSON_TRY(SystemdBus::connect(record.user_bus));
  CAISSON_TRY(bus.stop_unit(record.unit));
  return cgroup_remove(root, record.path.c_str());
}

Status update_placement(const PlacementRecord& record, int cgroup, span<const CgroupLimit> limits) {
  if (record.driver == CgroupDriver::kNone && !limits.empty())
    return Error(EACCES, "cgroup", "the container has no cgroup of its own");
  if (record.driver == CgroupDriver::kSystemd) {
    SystemdBus bus = CAISSON_TRY(SystemdBus::connect(record.user_bus));
    CAISSON_TRY(bus.set_properties(record.unit, limits));
  }
  return apply_limits(cgroup, limits);
}

}  // namespace caisson
