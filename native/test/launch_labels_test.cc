// Labels of security modules: AppArmor for real where the kernel has it (the virtual machine), the refusals everywhere.
#include "test/launch.h"

using namespace caisson;
using namespace caisson::test;

namespace {

constexpr const char* kProfile = "caisson-test";

// A profile without rules in complain mode, which forbids nothing, in the kernel's own format (policy_unpack.c of
// Linux): apparmor_parser(8) would be one more program to have.
class Policy {
 public:
  explicit Policy(string_view name) {
    this->name("version").u32_(5);
    this->name("profile").byte(7).string(name);
    this->name("flags").byte(7).u32_(0).u32_(1).u32_(0).byte(8);  // no hat, complain, no audit
    for (int i = 0; i < 4; ++i) u32_(0);                          // capabilities
    byte(8);
  }
  string_view bytes() const { return text_.view(); }

 private:
  Policy& byte(u8 value) {
    text_.append(static_cast<char>(value));
    return *this;
  }
  Policy& u32_(u32 value) {
    byte(2);
    for (int i = 0; i < 4; ++i) byte(static_cast<u8>(value >> 8 * i));
    return *this;
  }
  Policy& chunk(string_view text) {
    byte(static_cast<u8>(text.size() + 1)).byte(0);
    text_.append(text);
    return byte(0);
  }
  Policy& name(string_view text) { return byte(4).chunk(text); }
  Policy& string(string_view text) { return byte(5).chunk(text); }
  String text_;
};

bool enabled() { return has(read_file("/sys/module/apparmor/parameters/enabled"), "Y"); }

bool has_selinux() { return access("/sys/fs/selinux/enforce", F_OK) == 0; }

void load_profile(World& w) {
  const String at = concat(w.dir, "/securityfs");
  mkdir(at.c_str(), 0700);
  if (mount("securityfs", at.c_str(), "securityfs", 0, nullptr) != 0) perror("securityfs");
  const Policy policy(kProfile);
  Fd fd(open(concat(at, "/apparmor/.replace").c_str(), O_WRONLY | O_CLOEXEC));
  const ssize_t n = fd ? write(fd.get(), policy.bytes().data(), policy.bytes().size()) : -1;
  if (n < 0) perror("load the profile");
  CHECK(n == static_cast<ssize_t>(policy.bytes().size()));
  umount2(at.c_str(), MNT_DETACH);
  rmdir(at.c_str());
}

template <typename Change>
Run run_with(World& w, bool user, Change change) {
  constexpr const char* kCurrent[] = {"cat", "/proc/self/attr/apparmor/current"};
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  PlanBuilder b = container(w, o, kCurrent);
  change(b);
  return run_container(w, &pod, static_cast<PlanBuilder&&>(b));
}

// podman takes the text for an error of the security module by this form, libpod/oci_util.go.
bool named_as_podman_knows(const Run& run) {
  return run.failed && has(run.error.message, "`/proc/thread-self/attr/") && has(run.error.message, "/exec`: ") &&
         !has(run.error.message, "o such file") && strcmp(run.error.stage, "label") == 0;
}

void refused(World& w, bool user) {
  Run apparmor = run_with(w, user, [](PlanBuilder& b) { b.process().apparmor = b.string("caisson-absent"); });
  CHECK(named_as_podman_knows(apparmor) && apparmor.error.path.view() == "caisson-absent");
  CHECK(has(apparmor.error.message, "apply AppArmor profile \"caisson-absent\": write to "));
  CHECK(has(apparmor.error.message, enabled() ? "the profile is not loaded" : "AppArmor is not enabled on this host"));
  if (has_selinux()) return;
  Run selinux = run_with(w, user, [](PlanBuilder& b) { b.process().selinux = b.string("exec caisson-test"); });
  CHECK(named_as_podman_knows(selinux) && has(selinux.error.message, "SELinux is not enabled on this host"));
}

void applied(World& w, bool user) {
  const string_view expected = "caisson-test (complain)\n";
  for (bool no_new_privileges : {false, true}) {
    auto change = [&](PlanBuilder& b) {
      b.process().apparmor = b.string(kProfile);
      b.process().uid = 1000;
      if (!no_new_privileges) b.process().flags &= ~u32{kProcessNoNewPrivileges};
    };
    Run run = run_with(w, user, change);
    expect_ran(run, "profile");
    CHECK(run.output.view() == expected);
  }
  Run none = run_with(w, user, [](PlanBuilder&) {});
  CHECK(none.output.view() == "unconfined\n");
  Run unconfined = run_with(w, user, [](PlanBuilder& b) { b.process().apparmor = b.string("unconfined"); });
  expect_ran(unconfined, "unconfined");
  CHECK(unconfined.output.view() == "unconfined\n");
}

// What the image has at /proc cannot take the label (CVE-2019-16884), and one that joins it has its own.
void false_proc(World& w, bool user) {
  constexpr const char* kSleep[] = {"sleep", "1000"};
  Pod pod = make_pod(user, false);
  const String root = concat(w.dir, "/false-root");
  shell(concat("cp -a ", w.dir, concat("/bind ", root, concat(" && cd ", root, " && rm -rf proc"))));
  shell(concat("mkdir -p ", root, "/proc/self/attr/apparmor"));
  shell(concat("cd ", root, "/proc && touch self/attr/apparmor/exec && ln -s self thread-self"));
  PlanBuilder b(PlanKind::kContainer);
  b.ns(NamespaceType::kMount).mode = b.ns(NamespaceType::kPid).mode = NamespaceMode::kNew;
  if (user) b.ns(NamespaceType::kUser).mode = NamespaceMode::kPod;
  b.root() = {RootKind::kBind, 0, 0, b.string(root), {}};
  b.process().cwd = b.string("/");
  for (const char* arg : kSleep) b.add_text(Section::kArgs, arg);
  b.add_text(Section::kEnv, "PATH=/bin");
  b.process().apparmor = b.string(kProfile);
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, &pod, plan.view());
  expect_ran(run, "false /proc");
  release(run, plan.view());
  auto label_of = [](int pid) {
    String path(string_view("/proc/"));
    path.append_u64(static_cast<u64>(pid)).append("/attr/apparmor/current");
    return read_file(path.c_str());
  };
  CHECK(label_of(run.pid).view() == "caisson-test (complain)\n");

  PlanBuilder e(PlanKind::kExec);
  e.process().cwd = e.string("/");
  e.process().apparmor = e.string(kProfile);
  for (const char* arg : kSleep) e.add_text(Section::kArgs, arg);
  e.add_text(Section::kEnv, "PATH=/bin");
  PlanMap exec_plan = sealed(static_cast<PlanBuilder&&>(e));
  Run exec = start(exec_plan.view(), [&](int out) {
    ExecRequest request;
    request.plan = &exec_plan.view();
    request.init = run.pidfd.get();
    request.stdio[1] = request.stdio[2] = out;
    return begin_exec(request);
  });
  expect_ran(exec, "exec with a profile");
  release(exec, exec_plan.view());
  CHECK(label_of(exec.pid).view() == "caisson-test (complain)\n");
  for (Run* each : {&exec, &run}) {
    sys::pidfd_send_signal(each->pidfd.get(), SIGKILL);
    end(*each);
  }
  shell(concat("rm -rf ", root));
}

// Without a policy the kernel knows the names of its initial contexts, and gives any right to any of them.
void selinux(World& w, bool user) {
  constexpr const char* kCurrent[] = {"cat", "/proc/self/attr/current"};
  for (string_view label : {"", "file", "unlabeled"}) {
    Pod pod = make_pod(user, false);
    ContainerOptions o;
    o.user = user;
    PlanBuilder b = container(w, o, kCurrent);
    b.process().selinux = b.string(label);
    b.process().uid = 1000;
    Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
    expect_ran(run, "SELinux label");
    const string_view current(run.output.c_str());  // the file ends in a NUL
    if (current != (label.empty() ? "kernel" : label)) fprintf(stderr, "label: %s\n", run.output.c_str());
    CHECK(current == (label.empty() ? "kernel" : label));
  }
}

// Labels of a pod's own mounts have no effect without SELinux; an init that is to have one is refused as containers
// are.
void pods_without_selinux(bool user) {
  for (bool process : {false, true}) {
    PlanBuilder b(PlanKind::kPod);
    b.head().id = b.string("pod");
    b.head().shm_size = 1 << 20;
    b.head().mount_label = b.string("system_u:object_r:container_file_t:s0:c1,c2");
    if (process) b.process().selinux = b.string("system_u:system_r:container_t:s0:c1,c2");
    b.ns(NamespaceType::kIpc).mode = b.ns(NamespaceType::kPid).mode = NamespaceMode::kNew;
    if (user) {
      b.ns(NamespaceType::kUser).mode = NamespaceMode::kNew;
      b.add(Section::kUidMap, IdMapping{0, 100000, 65536});
      b.add(Section::kGidMap, IdMapping{0, 100000, 65536});
    }
    const PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
    Result<Pod> pod = create_pod(plan.view());
    CHECK(bool(pod) == !process);
    if (pod) {
      sys::pidfd_send_signal(pod->init.get(), SIGKILL);
      waitpid(pod->init_pid, nullptr, 0);
    } else {
      CHECK(has(String(pod.error().object), "SELinux is not enabled on this host"));
    }
  }
}

}  // namespace

int main() {
  return in_world([](World& world) {
    if (access("/sys/fs/selinux", F_OK) == 0 && !has_selinux())
      mount("selinuxfs", "/sys/fs/selinux", "selinuxfs", 0, nullptr);
    for (bool user : {false, true}) refused(world, user);
    for (bool user : {false, true}) {
      if (has_selinux())
        selinux(world, user);
      else
        pods_without_selinux(user);
    }
    if (!enabled()) return (void)printf("skipped: profiles, for this kernel has no AppArmor\n");
    load_profile(world);
    for (bool user : {false, true}) {
      applied(world, user);
      false_proc(world, user);
    }
  });
}
