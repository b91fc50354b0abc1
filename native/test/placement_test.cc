// Where containers are placed: paths, and real births in directories of ours, of another user's, and in systemd's
// scopes.
#include "core/placement.h"

#include <errno.h>
#include <sys/prctl.h>

#include <string>

#include "core/cgroup.h"
#include "core/systemd.h"
#include "test/launch.h"

using namespace caisson;
using namespace caisson::test;

namespace {

void paths() {
  struct Case {
    const char* given;
    const char* own;
    const char* expected;
  };
  const Case cases[] = {
      {"", "/user.slice/x.scope", "/user.slice/id"},
      {"", "/", "/id"},
      {"", "/a", "/id"},
      {"/a/b", "/x/y", "/a/b"},
      {"a/b", "/x/y", "/x/a/b"},
      {"//a/./b//", "/x", "/a/b"},
      {"/a/../../../b", "/x", "/b"},
      {"../../b", "/x/y/z", "/x/y/b"},
      {"a/../..", "/x/y", nullptr},
      {"/", "/x", nullptr},
      {"/..", "/x", nullptr},
  };
  for (const Case& each : cases) {
    auto path = cgroupfs_path(each.given, "id", each.own);
    CHECK(static_cast<bool>(path) == (each.expected != nullptr));
    if (path && each.expected != nullptr) CHECK(path->view() == each.expected);
    if (!path) CHECK(path.error().err == EINVAL);
  }
  const std::string deep(5000, 'a');
  auto refused = cgroupfs_path("/" + deep, "id", "/");
  CHECK(!refused && refused.error().err == ENAMETOOLONG);

  PlacementRecord record;
  record.driver = CgroupDriver::kSystemd;
  record.path = String("/a.slice/b.scope");
  record.unit = String("b.scope");
  record.user_bus = true;
  String text;
  JsonWriter out(text);
  write_placement(out, record);
  auto document = JsonDocument::parse(text);
  auto read = read_placement(document->root());
  CHECK(read && read->driver == CgroupDriver::kSystemd && read->path.view() == "/a.slice/b.scope" && read->user_bus);
  for (const char* bad : {R"({"driver":"cgroupfs","path":"/","unit":"","userBus":false})",
                          R"({"driver":"cgroupfs","path":"/a/../..","unit":"","userBus":false})",
                          R"({"driver":"cgroupfs","path":"a","unit":"","userBus":false})",
                          R"({"driver":"x","path":"/a","unit":"","userBus":false})", R"({"driver":"none"})", "[]"}) {
    auto wrong = JsonDocument::parse(bad);
    CHECK(!read_placement(wrong->root()));
  }
}

std::string value_of(int cgroup, const char* file) {
  char text[4096];
  auto read = cgroup_read(cgroup, file, text);
  return read ? std::string(*read) : "error " + std::to_string(read.error().err);
}

void add_limit(PlanBuilder& b, const char* file, const char* value) {
  CgroupWrite write;
  write.file = b.string(file);
  write.value = b.string(value);
  b.add(Section::kCgroupWrites, write);
}

PlanBuilder sleeper(World& w) {
  const char* args[] = {"/bin/sleep", "1000"};
  ContainerOptions options;
  options.overlay = false;
  options.shared = NamespaceMode::kHost;
  return container(w, options, args);
}

Run born(const Placement& placement, const PlanView& plan) {
  return start(plan, [&](int out) {
    BirthRequest request;
    request.plan = &plan;
    request.cgroup = placement.cgroup ? placement.cgroup.get() : -1;
    request.stdio[1] = request.stdio[2] = out;
    return begin_birth(request);
  });
}

bool has_controller(int root, string_view name) {
  char text[1024];
  auto words = cgroup_read(root, "cgroup.controllers", text);
  return words && cgroup_has_word(*words, name);
}

// A whole life, as caisson-oci drives it.
void life(World& w, const PlacementRequest& request, const std::string& path, bool pids) {
  PlanBuilder builder = sleeper(w);
  // The stages are two processes for a moment: a limit of 1, even of 0, must not refuse them.
  if (pids) add_limit(builder, "pids.max", "0");
  if (pids) add_limit(builder, "memory.max", "67108864");
  add_limit(builder, "cgroup.max.depth", "5");
  const PlanMap plan = sealed(static_cast<PlanBuilder&&>(builder));
  auto offered = offered_controllers(request);
  CHECK(offered);
  bool memory = false;
  for (const String& each : *offered) memory = memory || each.view() == "memory";
  CHECK(memory == pids);
  auto placed = place(request, plan.view());
  CHECK(placed);
  if (!placed) {
    fprintf(stderr, "place: %s %s\n", placed.error().call, placed.error().object);
    return;
  }
  CHECK(placed->record.path.view() == path);
  const int cgroup = placed->cgroup.get();
  CHECK(value_of(cgroup, "cgroup.max.depth") == "5");
  if (pids) CHECK(value_of(cgroup, "memory.max") == "67108864");
  Run run = born(*placed, plan.view());
  CHECK(!run.failed);
  CHECK(finish_placement(*placed, plan.view()));
  CHECK(!placed->placeholder);
  if (pids) CHECK(value_of(cgroup, "pids.max") == "0");
  release(run, plan.view());
  CHECK(!run.failed);
  auto inside = cgroup_processes(cgroup);
  CHECK(inside && inside->size() == 1 && (*inside)[0] == run.pid);
  auto where = cgroup_path_of(run.pid);
  CHECK(where && where->view() == path);

  // Another one in the same place is refused, and hurts nobody.
  auto second = place(request, plan.view());
  CHECK(!second);
  if (!request.systemd)
    CHECK(!second && second.error().err == EBUSY &&
          string_view(second.error().object).find("container's cgroup is not empty: 1 process(es) found") == 0);
  else
    CHECK(!second && second.error().err == EEXIST);
  CHECK(kill(run.pid, 0) == 0);

  if (pids) {
    const CgroupLimit limits[] = {{"memory.max", "33554432", 0}, {"pids.max", "21", 0}};
    CHECK(update_placement(placed->record, cgroup, limits));
    CHECK(value_of(cgroup, "memory.max") == "33554432" && value_of(cgroup, "pids.max") == "21");
    if (request.systemd) {
      CHECK(system("systemctl daemon-reload") == 0);
      CHECK(value_of(cgroup, "memory.max") == "33554432" && value_of(cgroup, "pids.max") == "21");
    }
  }
  auto opened = open_placement(placed->record);
  CHECK(opened && *opened);
  CHECK(remove_placement(placed->record, 10'000));
  end(run);
  CHECK(run.signal == SIGKILL);
  auto gone = open_placement(placed->record);
  CHECK(!gone && gone.error().err == ENOENT);
  CHECK(remove_placement(placed->record, 10'000));
}

void directories(World& w, int root) {
  const std::string top = "/caisson-place-" + std::to_string(getpid());
  const std::string path = top + "/a/c1";
  PlacementRequest request;
  request.id = "c1";
  request.cgroups_path = path;
  const bool pids = has_controller(root, "pids");
  life(w, request, path, pids);
  CHECK(cgroup_open(root, (top + "/a").c_str()));  // what others may use stays
  CHECK(cgroup_remove(root, top.c_str()));

  // What was there before, empty, is used; what a container before enabled in it is taken back.
  const PlanMap plan = sealed(sleeper(w));
  const PlanView& view = plan.view();
  CHECK(cgroup_ensure(root, path.c_str(), {}));
  auto before = cgroup_open(root, path.c_str());
  char text[1024];
  const std::string word(string_view(*cgroup_read(before->get(), "cgroup.controllers", text)).substr(0, 64));
  auto used = place(request, view);
  CHECK(used && used->made.empty());
  CHECK(value_of(used->cgroup.get(), "cgroup.subtree_control").empty());
  Run run = born(*used, view);
  CHECK(!run.failed);
  CHECK(undo_placement(*used));
  end(run);
  CHECK(cgroup_open(root, path.c_str()));  // it was not ours to remove
  auto handing = cgroup_open(root, path.c_str());
  if (has_controller(handing->get(), "hugetlb")) {
    CHECK(cgroup_write(handing->get(), "cgroup.subtree_control", "+hugetlb"));
    auto again = place(request, view);
    CHECK(again && value_of(again->cgroup.get(), "cgroup.subtree_control").empty());
    CHECK(undo_placement(*again));
  }
  CHECK(cgroup_write(handing->get(), "cgroup.freeze", "1"));
  auto frozen = place(request, view);
  CHECK(!frozen && frozen.error().err == EAGAIN &&
        string_view(frozen.error().object) == "container's cgroup unexpectedly frozen");
  CHECK(cgroup_destroy(root, top.c_str(), 5'000));

  // All or nothing: a controller that is not there, a limit that the kernel refuses.
  PlanBuilder missing = sleeper(w);
  add_limit(missing, "nosuch.max", "1");
  const PlanMap missing_plan = sealed(static_cast<PlanBuilder&&>(missing));
  auto refused = place(request, missing_plan.view());
  CHECK(!refused && refused.error().err == ENOTSUP && string_view(refused.error().object).find("nosuch (not in") == 0);
  CHECK(!cgroup_open(root, top.c_str()));
  PlanBuilder bad = sleeper(w);
  add_limit(bad, "cgroup.max.depth", "-7");
  const PlanMap bad_plan = sealed(static_cast<PlanBuilder&&>(bad));
  auto out_of_range = place(request, bad_plan.view());
  CHECK(!out_of_range && string_view(out_of_range.error().object) == "cgroup.max.depth");
  CHECK(!cgroup_open(root, top.c_str()));

  // Undone with others below what it made: those stay.
  auto mine = place(request, view);
  CHECK(mine && mine->made.view() == top);
  CHECK(cgroup_ensure(root, (top + "/other").c_str(), {}));
  CHECK(undo_placement(*mine));
  CHECK(!cgroup_open(root, (top + "/a").c_str()) && cgroup_open(root, (top + "/other").c_str()));
  CHECK(cgroup_remove(root, top.c_str()));
}

// In a child with another uid, which has no permission anywhere but, where `own` says so, in a cgroup of its own.
template <typename Act>
void as_user(int own, Act act) {
  const pid_t pid = fork();
  if (pid == 0) {
    failures = 0;
    if (own >= 0) CHECK(cgroup_write(own, "cgroup.procs", std::to_string(getpid())));
    CHECK(setgid(12345) == 0 && setuid(12345) == 0);
    act();
    _exit(failures == 0 ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void rootless(World& w, int root) {
  const PlanMap plan = sealed(sleeper(w));
  PlanBuilder limited = sleeper(w);
  add_limit(limited, "cgroup.max.depth", "5");
  const PlanMap limited_plan = sealed(static_cast<PlanBuilder&&>(limited));
  const std::string top = "/caisson-user-" + std::to_string(getpid());
  PlacementRequest request;
  request.id = "c1";
  request.rootless = true;
  as_user(-1, [&] {
    for (const std::string& path : {std::string(), top + "/c1"}) {
      request.cgroups_path = path;
      auto offered = offered_controllers(request);
      CHECK(offered && offered->empty());
      auto placed = place(request, plan.view());
      CHECK(placed && placed->record.driver == CgroupDriver::kNone && !placed->cgroup);
      CHECK(placed && finish_placement(*placed, plan.view()) && undo_placement(*placed));
      CHECK(placed && remove_placement(placed->record, 10));
      auto refused = place(request, limited_plan.view());
      CHECK(!refused && refused.error().err == EACCES &&
            string_view(refused.error().object).find("cgroup.max.depth: rootless needs no limits") == 0);
    }
    const std::string path = top + "/c1";
    request.cgroups_path = path;
    request.rootless = false;
    auto refused = place(request, plan.view());
    CHECK(!refused && (refused.error().err == EACCES || refused.error().err == EPERM));
    request.rootless = true;
  });
  CHECK(!cgroup_open(root, top.c_str()));

  // A delegated cgroup: its owner sits in one half and places in the other.
  CHECK(cgroup_ensure(root, (top + "/session").c_str(), {}));
  auto delegated = cgroup_open(root, top.c_str());
  auto session = cgroup_open(root, (top + "/session").c_str());
  CHECK(cgroup_set_owner(delegated->get(), 12345) && cgroup_set_owner(session->get(), 12345));
  as_user(session->get(), [&] {
    for (const std::string& path : {std::string(), std::string("c1"), top + "/c1"}) {
      request.cgroups_path = path;
      auto placed = place(request, limited_plan.view());
      CHECK(placed && placed->record.driver == CgroupDriver::kCgroupfs);
      if (!placed) continue;
      CHECK(placed->record.path.view() == top + "/c1");
      CHECK(value_of(placed->cgroup.get(), "cgroup.max.depth") == "5");
      CHECK(undo_placement(*placed));
    }
  });
  // From outside of it the kernel lets nobody in: as if there were none.
  as_user(-1, [&] {
    const std::string path = top + "/c1";
    request.cgroups_path = path;
    auto placed = place(request, plan.view());
    CHECK(placed && placed->record.driver == CgroupDriver::kNone);
  });
  CHECK(cgroup_destroy(root, top.c_str(), 5'000));
}

void ownership(World& w, int root) {
  struct Case {
    NamespaceMode cgroup;
    u64 readonly;
    u32 uid;
    bool user;
    u32 expected;  // uid of the directory afterwards
  };
  const Case cases[] = {
      {NamespaceMode::kNew, 0, 0, true, 100000},
      {NamespaceMode::kNew, 0, 7, true, 100007},
      {NamespaceMode::kNew, 0, 7, false, 7},
      {NamespaceMode::kNew, 0, 0, false, 0},
      {NamespaceMode::kNew, uapi::kMountAttrRdonly, 0, true, 0},
      {NamespaceMode::kHost, 0, 0, true, 0},
      {NamespaceMode::kNew, 0, 70000, true, 0},  // not mapped
  };
  const std::string name = "caisson-owner-" + std::to_string(getpid());
  for (const Case& each : cases) {
    const char* args[] = {"/bin/true"};
    ContainerOptions options;
    options.overlay = false;
    options.shared = NamespaceMode::kHost;
    PlanBuilder b = container(w, options, args);
    b.ns(NamespaceType::kCgroup).mode = each.cgroup;
    b.process().uid = each.uid;
    if (each.user) {
      b.ns(NamespaceType::kUser).mode = NamespaceMode::kNew;
      b.add(Section::kUidMap, IdMapping{0, 100000, 65536});
      b.add(Section::kGidMap, IdMapping{0, 100000, 65536});
    }
    add_mount(b, "cgroup2", "/sys/fs/cgroup", "", each.readonly);  // over the read-only one
    const PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
    auto cgroup = cgroup_create(root, name.c_str());
    CHECK(cgroup);
    auto given = delegate_placement(cgroup->get(), plan.view(), -1);
    CHECK(given && *given == (each.expected != 0));
    struct stat directory {
    }, procs{}, type{}, foreign{};
    CHECK(fstat(cgroup->get(), &directory) == 0 && directory.st_uid == each.expected && directory.st_gid == 0);
    CHECK(fstatat(cgroup->get(), "cgroup.procs", &procs, 0) == 0 && procs.st_uid == each.expected);
    CHECK(fstatat(cgroup->get(), "cgroup.subtree_control", &type, 0) == 0 && type.st_uid == each.expected);
    CHECK(fstatat(cgroup->get(), "cgroup.freeze", &foreign, 0) == 0 && foreign.st_uid == 0);
    CHECK(cgroup_remove(root, name.c_str()));
  }
}

void scopes(World& w) {
  PlacementRequest request;
  request.id = "c1";
  request.systemd = true;
  const std::string unit = "caisson-" + std::to_string(getpid());
  const std::string given = "caissontest-place.slice:caisson:" + std::to_string(getpid());
  request.cgroups_path = given;
  life(w, request, "/caissontest.slice/caissontest-place.slice/" + unit + ".scope", true);

  // hugetlb is none of systemd's controllers: it is enabled on the way all the same.
  PlanBuilder builder = sleeper(w);
  add_limit(builder, "hugetlb.2MB.max", "0");
  const PlanMap plan = sealed(static_cast<PlanBuilder&&>(builder));
  auto placed = place(request, plan.view());
  CHECK(placed);
  if (!placed) fprintf(stderr, "%s\n", placed.error().object);
  if (placed) CHECK(value_of(placed->cgroup.get(), "hugetlb.2MB.max") == "0");
  if (placed) CHECK(undo_placement(*placed));
  if (placed) CHECK(!open_placement(placed->record));

  // A limit that is refused leaves no unit behind.
  PlanBuilder bad = sleeper(w);
  add_limit(bad, "memory.high", "x");
  const PlanMap bad_plan = sealed(static_cast<PlanBuilder&&>(bad));
  auto refused = place(request, bad_plan.view());
  CHECK(!refused && string_view(refused.error().object) == "memory.high");
  auto bus = SystemdBus::connect(false);
  auto group = bus->control_group(unit + ".scope");
  CHECK(!group && group.error().err == ENOENT);
}

// A user with a manager of his own, from inside of it and from outside.
void user_scopes(World& w, int root) {
  const std::string manager = "/user.slice/user-12345.slice/user@12345.service";
  PlacementRequest request;
  request.id = "c1";
  request.systemd = request.rootless = true;
  const std::string given = "caissontest.slice:caisson:" + std::to_string(getpid());
  request.cgroups_path = given;
  const std::string unit = "caisson-" + std::to_string(getpid()) + ".scope";
  PlanBuilder builder = sleeper(w);
  add_limit(builder, "memory.max", "67108864");
  add_limit(builder, "pids.max", "3");
  const PlanMap plan = sealed(static_cast<PlanBuilder&&>(builder));
  CHECK(setenv("XDG_RUNTIME_DIR", "/run/user/12345", 1) == 0);
  auto session = cgroup_ensure(root, (manager + "/caisson-session").c_str(), {});
  CHECK(session);
  CHECK(cgroup_set_owner(session->get(), 12345));
  as_user(session->get(), [&] {
    auto placed = place(request, plan.view());
    CHECK(placed);
    if (!placed) {
      fprintf(stderr, "%s %s\n", placed.error().call, placed.error().object);
      return;
    }
    const int cgroup = placed->cgroup.get();
    CHECK(placed->record.user_bus && placed->record.path.view() == manager + "/caissontest.slice/" + unit);
    CHECK(value_of(cgroup, "memory.max") == "67108864");
    const pid_t pid = fork();
    if (pid == 0) {
      if (!cgroup_write(cgroup, "cgroup.procs", std::to_string(getpid()))) _exit(1);
      for (;;) pause();
    }
    for (int i = 0; i < 500 && cgroup_processes(cgroup)->size() < 2; ++i) usleep(10'000);
    CHECK(finish_placement(*placed, plan.view()));
    CHECK(value_of(cgroup, "pids.max") == "3");
    CHECK(remove_placement(placed->record, 10'000));
    CHECK(!open_placement(placed->record));
    CHECK(setenv("XDG_RUNTIME_DIR", "/tmp/caisson-nowhere", 1) == 0);
    auto nowhere = place(request, plan.view());
    CHECK(!nowhere && nowhere.error().err == ENOENT &&
          string_view(nowhere.error().object) == "/tmp/caisson-nowhere/bus");
  });
  as_user(-1, [&] {
    auto refused = place(request, plan.view());
    CHECK(!refused && refused.error().err == EACCES);
    CHECK(!refused && string_view(refused.error().object).find("systemd-run --user --scope") != string_view::npos);
  });
  CHECK(cgroup_destroy(root, (manager + "/caisson-session").c_str(), 5'000));
}

}  // namespace

int main() {
  paths();
  auto mount = find_cgroup_mount();
  if (geteuid() != 0 || !mount) {
    printf("skipped: needs root and a mount of cgroup2\n");
    return done();
  }
  prctl(PR_SET_DUMPABLE, 0);
  World w;
  const int root = mount->dir.get();
  directories(w, root);
  rootless(w, root);
  ownership(w, root);
  if (access("/run/systemd/system", F_OK) == 0)
    scopes(w);
  else
    printf("skipped: scopes: systemd is not pid 1 here\n");
  if (access("/run/user/12345/systemd", F_OK) == 0)
    user_scopes(w, root);
  else
    printf("skipped: a user's scopes: uid 12345 has no manager here\n");
  return done();
}
