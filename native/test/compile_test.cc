// The compiler: what good inputs become, and the exact sentence for each bad one.
#include "core/compile.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/plan.h"
#include "core/uapi.h"
#include "test/check.h"
#include "test/compile_inputs.h"

using namespace caisson;
using test::kCaissonInput;
using test::kCrunSpec;
using test::kDockerInput;

namespace {

// A plan with the bytes it views.
struct Plan {
  Compiled compiled;
  PlanView view;
};

bool compiles(Result<Compiled> result, Plan& plan, const char* what) {
  if (!result) {
    fprintf(stderr, "%s: %s\n", what, result.error().object);
    return false;
  }
  plan.compiled = result.take();
  Result<PlanView> view = PlanView::parse({plan.compiled.plan.data(), plan.compiled.plan.size()});
  if (!view) return false;
  plan.view = *view;
  return true;
}

// The smallest container, with members added to its parts; of duplicate members the last counts.
String container(const char* process, const char* linux, const char* spec, const char* input) {
  String json(
      "{\"spec\":{\"ociVersion\":\"1.3.0\",\"root\":{\"path\":\"/r\"},\"process\":{\"cwd\":\"/\",\"args\":[\"sh\"]");
  json.append(process).append(
      "},\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"},{\"type\":\"network\"},");
  json.append("{\"type\":\"ipc\"},{\"type\":\"uts\"}]").append(linux).append("}").append(spec).append("},");
  json.append("\"controllers\":[\"cpu\",\"cpuset\",\"hugetlb\",\"io\",\"memory\",\"pids\",\"rdma\"]").append(input);
  return static_cast<String&&>(json.append('}'));
}

enum Part { kProcess, kLinux, kSpec, kInput };

Result<Compiled> compile_with(Part part, const char* members) {
  const char* parts[4] = {"", "", "", ""};
  parts[part] = members;
  return compile_container(container(parts[0], parts[1], parts[2], parts[3]));
}

void expect(const Result<Compiled>& result, const char* members, int err, const char* message) {
  const bool held = !result && result.error().err == err && strcmp(result.error().object, message) == 0 &&
                    strcmp(result.error().call, "compile") == 0;
  if (!held)
    fprintf(stderr, "%s\n  expected %d %s\n  got      %d %s\n", members, err, message, result ? 0 : result.error().err,
            result ? "a plan" : result.error().object);
  CHECK(held);
}

struct BadCase {
  Part part;
  const char* members;
  int err;
  const char* message;
};

// The listener's address goes into the plan only where a rule needs it.
void listeners() {
  Plan with;
  CHECK(
      compiles(compile_with(kLinux, R"(,"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent.sock",)"
                                    R"("listenerMetadata":"m=1","flags":["SECCOMP_FILTER_FLAG_TSYNC",)"
                                    R"("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],)"
                                    R"("syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]})"),
               with, "listener"));
  CHECK(with.view.text(with.view.head().listener_path) == "/run/agent.sock");
  CHECK(with.view.text(with.view.head().listener_metadata) == "m=1");
  CHECK(with.view.process().seccomp_flags == (1 | 16 | 32) && !with.view.seccomp().empty());

  Plan without;
  CHECK(
      compiles(compile_with(kLinux, R"(,"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"agent",)"
                                    R"("listenerMetadata":"m=1","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]})"),
               without, "listener without a rule for it"));
  CHECK(without.view.head().listener_path.length == 0 && without.view.head().listener_metadata.length == 0);
  CHECK(without.view.process().seccomp_flags == 0);
}

void bad_containers() {
  static constexpr BadCase kCases[] = {
#include "test/compile_bad.inc"
  };
  for (const BadCase& each : kCases)
    expect(compile_with(each.part, each.members), each.members, each.err, each.message);
}

void bad_pods() {
  struct {
    const char* members;
    int err;
    const char* message;
  } const cases[] = {
      {"", 0, ""},
      {",\"id\":\"xyz\"", EINVAL, "id: 'xyz' is not the id of a pod"},
      {",\"namespaces\":null", EINVAL, "namespaces: is missing"},
      {",\"namespaces\":{\"network\":\"container\"}", EINVAL, "namespaces.network: 'container' is not pod or node"},
      {",\"namespaces\":{\"network\":\"pod\",\"ipc\":\"pod\",\"uts\":\"pod\",\"pid\":\"x\"}", EINVAL,
       "namespaces.pid: 'x' is not pod, container or node"},
      {",\"namespaces\":{\"network\":\"pod\",\"ipc\":\"pod\",\"uts\":\"node\",\"pid\":\"pod\"}", EINVAL,
       "hostname: needs a uts namespace of its own: it would rename the host"},
      {",\"namespaces\":{\"network\":\"pod\",\"ipc\":\"pod\",\"uts\":\"pod\",\"pid\":\"pod\",\"user\":{\"uidMappings\":"
       "[]}}",
       EINVAL, "namespaces.user.uidMappings: does not map id 0, by which containers are put together"},
      {",\"hostname\":\"a b\"", EINVAL, "hostname: 'a b' is not a host name"},
      {",\"sysctl\":{\"vm.swappiness\":\"1\"}", EINVAL,
       "sysctl.vm.swappiness: is not kept per namespace: it would change the host"},
      {",\"mountLabel\":\"a\\\"b\"", EINVAL, "mountLabel: 'a\"b' is not a SELinux context"},
      {",\"selinuxLabel\":\"a\\nb\"", EINVAL, "selinuxLabel: 'a?b' holds a control character"},
      {",\"shmSize\":-1", EINVAL, "shmSize: '-1' is not an integer from 0 to 1125899906842624"},
  };
  for (const auto& each : cases) {
    String json("{\"id\":\"");
    for (int i = 0; i < 64; ++i) json.append('a');
    json.append(
        "\",\"hostname\":\"web-0\",\"namespaces\":{\"network\":\"pod\",\"ipc\":\"pod\",\"uts\":\"pod\",\"pid\":"
        "\"container\",\"user\":null},\"sysctl\":{\"kernel.shm_rmid_forced\":\"1\"},\"shmSize\":67108864,"
        "\"mountLabel\":\"u:object_r:f_t:s0:c1,c2\",\"selinuxLabel\":\"u:r:p_t:s0:c1,c2\"");
    json.append(each.members).append('}');
    Result<Compiled> result = compile_pod(json);
    if (each.err != 0) {
      expect(result, each.members, each.err, each.message);
      continue;
    }
    Plan plan;
    CHECK(compiles(static_cast<Result<Compiled>&&>(result), plan, "pod"));
    const PlanHeader& head = plan.view.head();
    CHECK(head.ns(NamespaceType::kNetwork).mode == NamespaceMode::kNew);
    CHECK(head.ns(NamespaceType::kPid).mode == NamespaceMode::kHost);
    CHECK(head.ns(NamespaceType::kUser).mode == NamespaceMode::kHost);
    CHECK(plan.view.text(head.hostname) == "web-0");
    CHECK(head.shm_size == 67108864);
    CHECK(plan.view.text(head.mount_label) == "u:object_r:f_t:s0:c1,c2");
    CHECK(plan.view.text(plan.view.process().selinux) == "u:r:p_t:s0:c1,c2");
    CHECK(plan.view.sysctls().size() == 1 && plan.view.text(plan.view.sysctls()[0].key) == "kernel/shm_rmid_forced");
  }
}

void bad_texts() {
  Result<Compiled> malformed = compile_container("{");
  CHECK(!malformed && malformed.error().err == EINVAL);
  Result<Compiled> list = compile_container("[]");
  expect(list, "[]", EINVAL, "document: must be an object");
  expect(compile_container("{}"), "{}", EINVAL, "spec: is missing");
  expect(compile_exec("{}"), "{}", EINVAL, "process: is missing");
  expect(compile_exec("{\"process\":{\"args\":[]}}"), "args", EINVAL,
         "process.args: is empty: there is nothing to execute");
  expect(compile_exec("{\"process\":{\"args\":[\"a\"],\"cwd\":\"rel\"}}"), "cwd", EINVAL,
         "process.cwd: 'rel' is not an absolute path");
}

void exec_plan() {
  Plan plan;
  CHECK(compiles(
      compile_exec(
          "{\"process\":{\"args\":[\"id\",\"-u\"],\"cwd\":\"/\",\"terminal\":true,\"consoleSize\":{\"height\":24,"
          "\"width\":80},\"user\":{\"uid\":7,\"gid\":8,\"umask\":18,\"additionalGids\":[9]}}}"),
      plan, "exec"));
  const ProcessEntry& process = plan.view.process();
  CHECK(plan.view.kind() == PlanKind::kExec);
  CHECK(plan.view.args().size() == 2 && plan.view.text(plan.view.args()[1]) == "-u");
  CHECK(process.uid == 7 && process.gid == 8 && process.umask == 022);
  CHECK(plan.view.groups().size() == 1 && plan.view.groups()[0] == 9);
  // without capabilities it has none: never those of the monitor
  CHECK(process.flags ==
        (kProcessTerminal | kProcessConsoleSize | kProcessUmask | kProcessCapabilities | kProcessNewKeyring));
  CHECK(process.capabilities[kCapPermitted] == 0 && process.capabilities[kCapBounding] == 0);
  CHECK(process.rows == 24 && process.columns == 80);
}

// What `crun spec` and `runc spec` print, with the root made absolute by the bundle.
void default_specification() {
  Plan plan;
  CHECK(compiles(compile_container(kCrunSpec), plan, "crun spec"));
  const PlanView& view = plan.view;
  CHECK(view.text(view.root().path) == "/bundle/rootfs");
  CHECK((view.root().flags & kRootReadonly) != 0 && view.root().kind == RootKind::kBind);
  CHECK(view.text(view.head().hostname) == "crun");
  CHECK(view.mounts().size() == 7);
  CHECK(view.text(view.mounts()[6].fstype) == "cgroup2");
  const MountEntry& dev = view.mounts()[1];
  CHECK(view.text(dev.data) == "mode=755,size=65536k");
  CHECK(dev.attr_set == (uapi::kMountAttrNosuid | uapi::kMountAttrStrictatime));
  CHECK(dev.attr_clr == uapi::kMountAttrAtimeMask);
  CHECK(view.masked().size() == 10 && view.readonly_paths().size() == 5);
  CHECK(view.rlimits().size() == 1 && view.rlimits()[0].soft == 1024 && view.rlimits()[0].resource == 7);
  CHECK(view.devices().size() == 6 && view.links().size() == 6);
  CHECK(view.process().capabilities[kCapBounding] == (1u << 5 | 1u << 10 | 1u << 29));
  // its ambient set is not inheritable, so the kernel cannot grant it
  CHECK(view.process().capabilities[kCapAmbient] == 0);
  CHECK(plan.compiled.warnings.size() == 1);
  CHECK(plan.compiled.warnings[0].view() ==
        "process.capabilities.ambient: holds capabilities that are not both permitted and inheritable; they are left "
        "out");
  CHECK(!view.device_program().empty());
}

// The value written to a file of the cgroup; "" when it is not written.
string_view written(const PlanView& view, string_view file, u32* flags = nullptr) {
  for (const CgroupWrite& write : view.cgroup_writes()) {
    if (view.text(write.file) != file) continue;
    if (flags != nullptr) *flags = write.flags;
    return view.text(write.value);
  }
  return {};
}

void cgroup_values() {
  struct {
    const char* resources;
    const char* file;
    const char* value;
  } const cases[] = {
      {"\"memory\":{\"limit\":1048576}", "memory.max", "1048576"},
      {"\"memory\":{\"limit\":1048576}", "memory.swap.max", ""},
      {"\"memory\":{\"limit\":-1}", "memory.max", "max"},
      {"\"memory\":{\"limit\":-1}", "memory.swap.max", "max"},
      {"\"memory\":{\"limit\":-1,\"swap\":4096}", "memory.swap.max", "4096"},
      {"\"memory\":{\"limit\":4096,\"swap\":4096}", "memory.swap.max", "0"},
      {"\"memory\":{\"limit\":4096,\"swap\":12288}", "memory.swap.max", "8192"},
      {"\"memory\":{\"limit\":4096,\"swap\":-1}", "memory.swap.max", "max"},
      {"\"memory\":{\"swap\":-1}", "memory.swap.max", "max"},
      {"\"memory\":{\"reservation\":4096}", "memory.low", "4096"},
      {"\"memory\":{\"limit\":0,\"kernel\":-1,\"kernelTCP\":-1,\"useHierarchy\":true,\"disableOOMKiller\":false}",
       "memory.max", ""},
      {"\"cpu\":{\"shares\":1024}", "cpu.weight", "100"},
      {"\"cpu\":{\"shares\":2}", "cpu.weight", "1"},
      {"\"cpu\":{\"shares\":262144}", "cpu.weight", "10000"},
      {"\"cpu\":{\"shares\":512}", "cpu.weight", "59"},
      {"\"cpu\":{\"shares\":2048}", "cpu.weight", "174"},
      {"\"cpu\":{\"shares\":0}", "cpu.weight", ""},
      {"\"cpu\":{\"quota\":50000}", "cpu.max", "50000 100000"},
      {"\"cpu\":{\"quota\":50000,\"period\":200000}", "cpu.max", "50000 200000"},
      {"\"cpu\":{\"quota\":-1}", "cpu.max", "max 100000"},
      {"\"cpu\":{\"period\":200000}", "cpu.max", "max 200000"},
      {"\"cpu\":{\"quota\":50000,\"burst\":10000}", "cpu.max.burst", "10000"},
      {"\"cpu\":{\"idle\":1}", "cpu.idle", "1"},
      {"\"cpu\":{\"cpus\":\"0-3,7\",\"mems\":\"0\"}", "cpuset.cpus", "0-3,7"},
      {"\"cpu\":{\"cpus\":\"0-3,7\",\"mems\":\"0\"}", "cpuset.mems", "0"},
      {"\"pids\":{\"limit\":-1}", "pids.max", "max"},
      {"\"pids\":{\"limit\":0}", "pids.max", "0"},
      {"\"pids\":{\"limit\":32771}", "pids.max", "32771"},
      {"\"blockIO\":{\"weight\":500}", "io.bfq.weight", "500"},
      {"\"blockIO\":{\"weight\":500}", "io.weight", "4950"},
      {"\"blockIO\":{\"weight\":10}", "io.weight", "1"},
      {"\"blockIO\":{\"weight\":1000}", "io.weight", "10000"},
      {"\"blockIO\":{\"weightDevice\":[{\"major\":8,\"minor\":16,\"weight\":100}]}", "io.bfq.weight", "8:16 100"},
      {"\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":600}]}", "io.max", "8:0 rbps=600"},
      {"\"blockIO\":{\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":0}]}", "io.max", "8:0 wiops=max"},
      {"\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":209715200}]", "hugetlb.2MB.max", "209715200"},
      {"\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":209715200}]", "hugetlb.2MB.rsvd.max", "209715200"},
      {"\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3,\"hcaObjects\":10000}}", "rdma.max",
       "mlx5_1 hca_handle=3 hca_object=10000"},
      {"\"unified\":{\"memory.high\":\"4096\"}", "memory.high", "4096"},
      {"\"unified\":{\"cgroup.max.depth\":\"3\"}", "cgroup.max.depth", "3"},
  };
  for (const auto& each : cases) {
    String members(",\"resources\":{");
    members.append(each.resources).append('}');
    Plan plan;
    CHECK(compiles(compile_with(kLinux, members.c_str()), plan, each.resources));
    const string_view value = plan.view.head().magic != 0 ? written(plan.view, each.file) : string_view();
    if (value != each.value)
      fprintf(stderr, "%s: %s is '%.*s'\n", each.resources, each.file, static_cast<int>(value.size()), value.data());
    CHECK(value == each.value);
  }
}

void rdt() {
  Plan plan;
  CHECK(compiles(compile_with(kLinux,
                              ",\"intelRdt\":{\"closID\":\"gold\",\"l3CacheSchema\":\"L3:0=f\\nMB:0=50\\nL2:0=3\","
                              "\"memBwSchema\":\"MB:0=20\",\"schemata\":[\"L3:1=7\"],\"enableMonitoring\":true}"),
                 plan, "intelRdt"));
  CHECK(plan.view.text(plan.view.head().rdt.clos) == "gold");
  CHECK(plan.view.head().rdt.flags == (kRdtPresent | kRdtMonitoring));
  const char* const expected[] = {"L3:0=f", "L2:0=3", "MB:0=20", "L3:1=7"};
  CHECK(plan.view.rdt_schemata().size() == 4);
  for (u32 i = 0; i < plan.view.rdt_schemata().size() && i < 4; ++i)
    CHECK(plan.view.text(plan.view.rdt_schemata()[i]) == expected[i]);
  Plan none;
  CHECK(compiles(compile_with(kLinux, ""), none, "no intelRdt"));
  CHECK(none.view.head().rdt.flags == 0);
}

void cgroup_details() {
  Plan plan;
  CHECK(compiles(
      compile_with(kLinux,
                   ",\"resources\":{\"unified\":{\"io.max\":\"8:0 rbps=1\\n8:16 wbps=2\"},\"blockIO\":{\"weight\":"
                   "100},\"memory\":{\"limit\":8192,\"swap\":8192}}"),
      plan, "unified"));
  u32 lines = 0;
  for (const CgroupWrite& write : plan.view.cgroup_writes()) lines += plan.view.text(write.file) == "io.max";
  CHECK(lines == 2);
  u32 flags = 0;
  written(plan.view, "io.bfq.weight", &flags);
  CHECK(flags == kCgroupIgnoreMissing);
  written(plan.view, "io.weight", &flags);
  CHECK(flags == kCgroupIfPreviousMissing);
  written(plan.view, "memory.swap.max", &flags);
  CHECK(flags == kCgroupIgnoreMissing);  // "0": a host without swap accounting has none to give
  written(plan.view, "memory.max", &flags);
  CHECK(flags == 0);

  Plan cpu;
  CHECK(compiles(
      compile_with(kLinux, ",\"resources\":{\"cpu\":{\"shares\":1024,\"quota\":50000,\"burst\":10000,\"idle\":1}}"),
      cpu, "cpu"));
  const char* const order[] = {"cpu.weight", "cpu.max.burst", "cpu.max", "cpu.idle"};
  CHECK(cpu.view.cgroup_writes().size() == 4);
  for (u32 i = 0; i < cpu.view.cgroup_writes().size() && i < 4; ++i)
    CHECK(cpu.view.text(cpu.view.cgroup_writes()[i].file) == order[i]);

  // A missing controller is a warning where the operator says so; the limit is not written.
  Plan warned;
  CHECK(compiles(compile_container(container("", ",\"resources\":{\"memory\":{\"limit\":4096},\"pids\":{\"limit\":5}}",
                                             "", ",\"controllers\":[\"pids\"],\"missingController\":\"warn\"")),
                 warned, "warn"));
  CHECK(warned.compiled.warnings.size() == 1 &&
        warned.compiled.warnings[0].view() ==
            "linux.resources.memory.limit: controller 'memory' is not available in this cgroup hierarchy");
  CHECK(written(warned.view, "memory.max").empty() && written(warned.view, "pids.max") == "5");
}

// One mount with these members; its record.
bool mount_of(const char* members, Plan& plan) {
  String spec(",\"mounts\":[{\"destination\":\"/m\",\"type\":\"tmpfs\"");
  spec.append(members).append("}]");
  return compiles(compile_with(kSpec, spec.c_str()), plan, members) && plan.view.mounts().size() == 1;
}

void mounts() {
  Plan plan;
  CHECK(mount_of(
      ",\"options\":[\"ro\",\"nosuid\",\"rw\",\"sync\",\"async\",\"dirsync\",\"silent\",\"size=1\",\"mode=2\",\"x-a\"]",
      plan));
  const MountEntry& tmpfs = plan.view.mounts()[0];
  CHECK(tmpfs.kind == MountKind::kFilesystem && plan.view.text(tmpfs.data) == "size=1,mode=2");
  CHECK(tmpfs.attr_set == uapi::kMountAttrNosuid && tmpfs.attr_clr == uapi::kMountAttrRdonly);
  CHECK(tmpfs.superblock == uapi::kMsDirsync && plan.view.text(tmpfs.source) == "tmpfs");

  CHECK(mount_of(",\"source\":\"/s/./../t\",\"options\":[\"rbind\",\"rslave\",\"rro\",\"noatime\"]", plan));
  const MountEntry& bind = plan.view.mounts()[0];
  CHECK(bind.kind == MountKind::kBind && bind.flags == kMountRecursive && plan.view.text(bind.source) == "/s/./../t");
  CHECK(bind.propagation == (uapi::kMsSlave | uapi::kMsRec) && bind.recursive_set == uapi::kMountAttrRdonly);
  CHECK(bind.attr_set == uapi::kMountAttrNoatime && bind.attr_clr == uapi::kMountAttrAtimeMask);

  // Only what was to propagate is checked, and only where the caller asks for it.
  const String volumes =
      container("", "",
                ",\"mounts\":[{\"destination\":\"/p\",\"source\":\"/s\",\"options\":[\"rbind\",\"rprivate\"]},"
                "{\"destination\":\"/s\",\"source\":\"/s\",\"options\":[\"rbind\",\"rslave\"]},"
                "{\"destination\":\"/b\",\"source\":\"/s\",\"options\":[\"rbind\",\"rshared\"]},"
                "{\"destination\":\"/t\",\"type\":\"tmpfs\",\"options\":[\"rshared\"]}]",
                ",\"checkPropagation\":true");
  CHECK(compiles(compile_container(volumes), plan, "checked propagation") && plan.view.mounts().size() == 4);
  const u32 checked[] = {kMountRecursive, kMountRecursive | kMountCheckPropagation,
                         kMountRecursive | kMountCheckPropagation, 0};
  for (u32 i = 0; i < 4; ++i) CHECK(plan.view.mounts()[i].flags == checked[i]);

  CHECK(mount_of(",\"type\":\"bind\",\"source\":\"caisson:shm\"", plan));
  CHECK(plan.view.mounts()[0].kind == MountKind::kPodShm);
  CHECK(mount_of(",\"options\":[\"remount\",\"ro\"]", plan));
  CHECK(plan.view.mounts()[0].kind == MountKind::kRemount && plan.view.mounts()[0].attr_set == uapi::kMountAttrRdonly);
  CHECK(mount_of(",\"options\":[\"tmpcopyup\"]", plan) && plan.view.mounts()[0].flags == kMountCopyUp);

  // destinations never hold a component that a stage would have to think about
  struct {
    const char* given;
    const char* clean;
  } const paths[] = {{"/a//b/./c/", "/a/b/c"}, {"/a/../../b", "/b"}, {"rel/x", "/rel/x"}, {"/..a/b..", "/..a/b.."}};
  for (const auto& each : paths) {
    String members(",\"destination\":\"");
    members.append(each.given).append('"');
    CHECK(mount_of(members.c_str(), plan));
    CHECK(plan.view.text(plan.view.mounts()[0].destination) == each.clean);
  }

  // the host's /dev brings its own nodes and links
  CHECK(mount_of(",\"destination\":\"/dev\",\"source\":\"/dev\",\"options\":[\"rbind\"]", plan));
  CHECK(plan.view.devices().empty() && plan.view.links().empty());
}

void bind_leaves_file_system_options_out() {
  Plan plan;
  CHECK(mount_of(",\"source\":\"/s\",\"options\":[\"bind\",\"size=1\",\"sync\"]", plan));
  CHECK(plan.view.mounts()[0].data.length == 0 && plan.view.mounts()[0].superblock == 0);
  CHECK(plan.compiled.warnings.size() == 1);
}

void every_option_word() {
  CHECK(mount_options().size() == 62);
  for (const string_view word : mount_options()) {
    String members(",\"source\":\"/s\",\"options\":[\"");
    members.append(word).append("\"]");
    Plan plan;
    const bool needs_user_namespace = word == "idmap" || word == "ridmap";
    String spec(",\"mounts\":[{\"destination\":\"/m\",\"type\":\"tmpfs\"");
    spec.append(members).append("}]");
    const Result<Compiled> result = compile_with(kSpec, spec.c_str());
    CHECK(static_cast<bool>(result) != needs_user_namespace);
  }
}

void container_details() {
  Plan plan;
  CHECK(compiles(compile_container(kCaissonInput), plan, "caisson input"));
  const PlanView& view = plan.view;
  const PlanHeader& head = view.head();
  CHECK(view.root().kind == RootKind::kOverlay && view.text(view.root().path) == "/var/lib/caisson/layers/fs");
  CHECK(view.layers().size() == 2 && view.text(view.layers()[0]) == "aaaaaaaaaaaaaaaaaaaaaaaaa2");
  CHECK(head.ns(NamespaceType::kNetwork).mode == NamespaceMode::kPod);
  CHECK(head.ns(NamespaceType::kPid).mode == NamespaceMode::kTarget);
  CHECK(head.ns(NamespaceType::kUser).mode == NamespaceMode::kPod);
  CHECK(head.ns(NamespaceType::kTime).mode == NamespaceMode::kHost);
  CHECK(view.uid_map().empty());
  const ProcessEntry& process = view.process();
  CHECK(view.text(process.user) == "www-data:1000" && process.gid == 33);
  CHECK(process.flags ==
        (kProcessLookupUser | kProcessGid | kProcessGroupsStrict | kProcessSetHome | kProcessNewKeyring |
         kProcessLateLookup | kProcessNoNewPrivileges | kProcessOomScoreAdj | kProcessCapabilities));
  CHECK(process.oom_score_adj == 998);
  CHECK(view.groups().size() == 2 && view.groups()[1] == 2);
  CHECK(view.volumes().size() == 1 && view.text(view.volumes()[0]) == "/data");
  CHECK(view.mounts().size() == 2 && view.mounts()[1].flags == (kMountRecursive | kMountCreateSource));
  // NAME=value only, the last of a name, in the order given
  CHECK(view.env().size() == 2 && view.text(view.env()[0]) == "B=2" && view.text(view.env()[1]) == "A=3");
  CHECK(plan.compiled.warnings.size() == 2);
}

void bounds() {
  String many(",\"mounts\":[");
  for (int i = 0; i < 10'000; ++i) many.append(i == 0 ? "" : ",").append("{\"destination\":\"/m\",\"type\":\"tmpfs\"}");
  many.append(']');
  expect(compile_with(kSpec, many.c_str()), "10000 mounts", E2BIG, "mounts: 10000 entries, at most 4096 are accepted");

  String deep(",\"cwd\":\"/");
  for (int i = 0; i < 5000; ++i) deep.append('a');
  deep.append('"');
  expect(compile_with(kProcess, deep.c_str()), "long cwd", ENAMETOOLONG,
         "process.cwd: 5001 bytes, at most 4095 are accepted");

  String component(",\"cwd\":\"/");
  for (int i = 0; i < 256; ++i) component.append('a');
  component.append('"');
  expect(compile_with(kProcess, component.c_str()), "long component", ENAMETOOLONG,
         "process.cwd: path with a component of more than 255 bytes");
}

void bounds_of_the_kernel() {
  String layers(",\"rootfs\":{\"layersRoot\":\"/l\",\"upper\":\"/u\",\"lower\":[");
  for (int i = 0; i < 501; ++i) layers.append(i == 0 ? "" : ",").append("\"aaaaaaaaaaaaaaaaaaaaaaaaaa\"");
  layers.append("]}");
  expect(compile_with(kInput, layers.c_str()), "501 layers", E2BIG,
         "rootfs.lower: 501 entries, at most 500 are accepted");
}

u64 nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

void report_speed(const char* what, const char* json) {
  u64 best = ~u64{0};
  size_t size = 0;
  for (int i = 0; i < 200; ++i) {
    const u64 begin = nanoseconds();
    Result<Compiled> result = compile_container(json);
    const u64 took = nanoseconds() - begin;
    if (!result) {
      fprintf(stderr, "%s: %s\n", what, result.error().object);
      return;
    }
    size = result->plan.size();
    best = took < best ? took : best;
  }
  printf("%s: %.1f us, %zu bytes of plan\n", what, static_cast<double>(best) / 1000, size);
}

}  // namespace

int main() {
  bad_texts();
  bad_pods();
  bad_containers();
  exec_plan();
  default_specification();
  cgroup_values();
  cgroup_details();
  rdt();
  mounts();
  bind_leaves_file_system_options_out();
  every_option_word();
  container_details();
  listeners();
  bounds();
  bounds_of_the_kernel();
  report_speed("crun spec", kCrunSpec);
  report_speed("docker-like with seccomp", kDockerInput);
  return test::done();
}
