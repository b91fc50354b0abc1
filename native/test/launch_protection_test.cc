// What a container's root, mounts and paths must not become: peers of the host's mounts, a false /proc, ways out.
#include "test/launch_config.h"

using namespace caisson;
using namespace caisson::test;

namespace {

String bind_json(string_view source, string_view destination, string_view options = R"("bind")") {
  String json(R"(,{"type":"bind","source":")");
  json.append(source).append(R"(","destination":")").append(destination).append(R"(","options":[)");
  return static_cast<String&&>(json.append(options).append("]}"));
}

// The fields between the options and the dash of the mount at `point`: "shared:N", "master:N", "unbindable" or "".
String groups_of(const String& mountinfo, string_view point) {
  String wanted = concat(" ", point, " ");
  string_view text = mountinfo;
  size_t at = text.find(wanted.view());
  if (at == text.npos) return String("not mounted");
  string_view line = part(text, at + wanted.size());
  line = part(line, 0, line.find('\n'));
  size_t options = line.find(' ');
  size_t dash = line.find(" - ");
  return String(dash == options ? string_view() : part(line, options + 1, dash - options - 1));
}

// The world's tree is shared, as systemd makes the host's.
void propagation_of_the_root(World& w) {
  struct Case {
    const char* word;
    const char* root;
    const char* proc;
  };
  constexpr Case kCases[] = {
      {"", "", ""},
      {"private", "", ""},
      {"rprivate", "", ""},
      {"slave", "master:", ""},
      {"rslave", "master:", ""},
      {"shared", "shared:", ""},
      {"rshared", "shared:", "shared:"},
      {"unbindable", "unbindable", ""},
      {"runbindable", "unbindable", "unbindable"},
  };
  String before = read_file("/proc/self/mountinfo");
  for (const Case& each : kCases) {
    Config c;
    c.script = "cat /proc/self/mountinfo; busybox mount -t tmpfs inner /tmp && echo mounted";
    if (each.word[0] != 0) c.linux = concat(R"(,"rootfsPropagation":")", each.word, "\"");
    Run run = run_config(w, c);
    expect_output(run, "mounted\n", each.word);
    String root = groups_of(run.output, "/");
    String proc = groups_of(run.output, "/proc");
    if (!root.view().starts_with(each.root) || (each.root[0] == 0) != root.empty())
      fprintf(stderr, "%s: /: %s\n", each.word, root.c_str());
    CHECK(root.view().starts_with(each.root) && (each.root[0] == 0) == root.empty());
    CHECK(proc.view().starts_with(each.proc) && (each.proc[0] == 0) == proc.empty());
    // a shared root is shared in the container, not with the host
    CHECK(read_file("/proc/self/mountinfo").view() == before.view());
  }
}

void proc_is_proc(World& w) {
  Config c;
  c.script = "cat /proc/uptime; head -1 /proc/self/stat 2>&1 | busybox wc -l";
  c.mounts = bind_json(concat(w.dir, "/bind/etc/passwd"), "/proc/uptime");
  expect_output(run_config(w, c), "root:x:0:0", "a file of lxcfs");
  c.mounts = bind_json(concat(w.dir, "/bind/etc/passwd"), "/proc/self/attr/exec");
  expect_error(run_config(w, c), EINVAL, "is inside /proc", "a file of labels");
  c.mounts = bind_json(concat(w.dir, "/volume"), "/proc");
  expect_error(run_config(w, c), EXDEV,
               "mount \"/proc\": invalid cross-device link (only a procfs can be mounted at /proc)",
               "a directory for /proc");
  c.mounts = bind_json("/proc", "/proc", R"("rbind")");
  c.script = "test -d /proc/1/fd && echo proc";
  expect_output(run_config(w, c), "proc\n", "the host's /proc");
  // an image's own way into /proc
  shell(concat(concat("ln -s /proc/sys ", w.dir, "/bind/way-in; ln -s ../proc/self "), w.dir, "/bind/other-way"));
  c.mounts = bind_json(concat(w.dir, "/volume"), "/way-in/kernel");
  expect_error(run_config(w, c), EXDEV, "(a symlink of the image leads into /proc)", "symlink to /proc/sys");
  c.mounts = bind_json(concat(w.dir, "/volume"), "/other-way/fdinfo");
  expect_error(run_config(w, c), EXDEV, "leads into /proc", "symlink to /proc/self");
  Config link;
  link.root = concat(w.dir, "/linked");
  shell(concat(concat("cp -a ", w.dir, "/bind "), link.root,
               concat("; rm -rf ", link.root, concat("/proc; ln -s /tmp ", link.root, "/proc"))));
  Run run = run_config(w, link);
  CHECK(run.failed && run.error.err == ELOOP && has(run.error.message, "a symlink of the image is in the way"));
}

void paths(World& w) {
  String volume = concat(w.dir, "/volume");
  write_file(concat(volume, "/file"), "content\n");
  shell(concat(concat("ln -sfn /etc ", w.dir, "/bind/link; ln -sfn ../../../../tmp "), w.dir, "/bind/up"));
  Config c;
  c.mounts = concat(concat(bind_json(volume, "relative/dir"), bind_json(concat(volume, "/file"), "/a/../../b/./file")),
                    concat(bind_json(concat(volume, "/file"), "/link/new"), bind_json(volume, "/up/deep/er")));
  c.script = "cat /relative/dir/file /b/file /etc/new /tmp/deep/er/file; ls -d /a 2>&1";
  expect_output(run_config(w, c), "content\ncontent\ncontent\ncontent\nls: /a: No such file", "destinations");
  c.mounts = bind_json(volume, "/etc/passwd");
  expect_error(run_config(w, c), ENOTDIR, "\"/etc/passwd\": not a directory", "a directory over a file");
}

void hidden_and_read_only(World& w) {
  Config c;
  c.linux =
      String(R"(,"maskedPaths":["/proc/timer_list","/proc/timer_list","/proc/tty","/proc/bus","/proc/absent","/etc"],)"
             R"("readonlyPaths":["/proc/sys","/proc/absent","/tmp"])");
  c.script =
      "cat /proc/timer_list | busybox wc -c; ls /proc/tty /proc/bus /etc; touch /tmp/x /etc/x 2>&1; echo 1 > "
      "/proc/timer_list; "
      "grep -E ' /(proc/sys|etc|proc/tty|tmp) ' /proc/self/mountinfo | busybox cut -d' ' -f 3,5,6";
  Run run = run_config(w, c);
  expect_output(run,
                "0\n/etc:\n\n/proc/bus:\n\n/proc/tty:\ntouch: /tmp/x: Read-only file system\ntouch: /etc/x: Read-only",
                "hidden");
  expect_output(run, " /proc/sys ro,nosuid,nodev,noexec,relatime\n", "flags are kept");
  // one file system covers all directories
  size_t etc = run.output.view().find(" /etc ro");
  size_t tty = run.output.view().find(" /proc/tty ro");
  CHECK(etc != string_view::npos && tty != string_view::npos);
  if (etc == string_view::npos || tty == string_view::npos) return;
  auto device = [&](size_t at) {
    string_view before = part(run.output, 0, at);
    return part(before, before.rfind('\n') + 1);
  };
  CHECK(device(etc) == device(tty));
}

void cgroups(World& w) {
  Config c;
  c.script =
      "cat /proc/self/cgroup; grep ' /cg ' /proc/self/mountinfo; ls /cg/cgroup.procs; busybox mkdir /cg/x 2>&1; ls -d "
      "/cg/caisson-test* 2>&1";
  c.mounts = String(
      R"(,{"destination":"/cg","type":"cgroup","source":"cgroup","options":["ro","nosuid","noexec","nodev","name=systemd"]})");
  // Without a cgroup namespace: the container's own part, not the host's tree (CVE-2023-25809).
  Run run = run_config(w, c);
  String own = concat("/caisson-test-", String().append_u64(static_cast<u64>(getpid())));
  expect_output(run, concat(concat(" ", own, " /cg ro,nosuid,nodev,noexec"), ""), "own part");
  CHECK(has(run.output, "0::/") && has(run.output, own));
  CHECK(has(run.output, "/cg/cgroup.procs\n") && has(run.output, "Read-only file system"));
  CHECK(has(run.output, "ls: /cg/caisson-test*: No such file"));
  c.namespaces = R"({"type":"mount"},{"type":"pid"},{"type":"cgroup"})";
  run = run_config(w, c);
  expect_output(run, "0::/\n", "cgroup namespace");
  expect_output(run, " / /cg ro,nosuid,nodev,noexec", "cgroup namespace");
  CHECK(has(run.output, "Read-only file system") && has(run.output, " - cgroup2 cgroup "));
}

// Without privileges and without a cgroup of its own, the container sees the part of the tree it was born in; on a
// hybrid host that is at no known place.
void cgroup_without_privileges(World& w) {
  constexpr u32 kUser = 12345;
  shell(concat("chmod 755 ", w.dir));
  int pid = fork();
  if (pid == 0) {
    checks = failures = 0;
    if (sys::setgroups(0, nullptr) != 0 || sys::setresgid(kUser) != 0 || sys::setresuid(kUser) != 0) abort();
    sys::prctl(uapi::kPrSetDumpable, 1);
    Config c;
    c.namespaces = R"({"type":"mount"},{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"user"})";
    c.linux = String(R"(,"uidMappings":[{"containerID":0,"hostID":12345,"size":1}],)"
                     R"("gidMappings":[{"containerID":0,"hostID":12345,"size":1}])");
    c.mounts = String(R"(,{"destination":"/tmp","type":"cgroup","source":"cgroup","options":["rw"]})");
    c.script = "grep ' /tmp ' /proc/self/mountinfo; cat /proc/self/cgroup";
    auto compiled = compile_container(config_json(w, c));
    if (!compiled) abort();
    auto plan = PlanView::parse({compiled->plan.data(), compiled->plan.size()});
    Run run = start(*plan, [&](int out) {
      BirthRequest request;
      request.plan = &*plan;
      request.rootless = true;
      request.stdio[1] = request.stdio[2] = out;
      return begin_birth(request);
    });
    if (!run.failed) {
      release(run, *plan);
      end(run);
    }
    String own = read_file("/proc/self/cgroup");
    size_t at = own.view().find("0::");
    String shown = concat(" ", part(own, at + 3, own.view().find('\n', at) - at - 3), " /tmp ro,");
    if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
      expect_output(run, shown, "cgroup without privileges");
    else
      expect_error(run, ENOENT, "\"cgroup\" for \"/tmp\": no such file or directory", "cgroup without privileges");
    CHECK(checks != 0);
    _exit(failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  CHECK(status == 0);
}

// Parameters and names are set in joined namespaces, never in the host's own.
void joined_namespaces(World& w) {
  int pid = fork();
  if (pid == 0) {
    sys::unshare(uapi::kCloneNewnet | uapi::kCloneNewuts | uapi::kCloneNewipc);
    for (;;) pause();
  }
  usleep(50'000);
  auto namespaces = [](int of) {
    String json(string_view(R"({"type":"mount"},{"type":"pid"})"));
    for (string_view type : {"network net", "uts uts", "ipc ipc"}) {
      size_t space = type.find(' ');
      json.append(R"(,{"type":")").append(part(type, 0, space)).append(R"(","path":"/proc/)");
      json.append_u64(static_cast<u64>(of)).append("/ns/").append(part(type, space + 1)).append("\"}");
    }
    return json;
  };
  Config c;
  c.script =
      "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni /proc/sys/kernel/domainname; hostname";
  c.linux = String(
      R"(,"sysctl":{"net.ipv4.ip_unprivileged_port_start":"77","kernel/shmmni":"123","kernel.domainname":"dom"})");
  c.spec = String(R"(,"hostname":"joined")");
  String theirs = namespaces(pid);
  c.namespaces = theirs.c_str();
  expect_output(run_config(w, c), "77\n123\ndom\njoined\n", "joined namespaces");
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  String own = namespaces(getpid());
  c.namespaces = own.c_str();
  expect_error(run_config(w, c), EINVAL, "linux.namespaces: the network namespace to join is the host's",
               "own namespaces");
  c.linux = String();
  expect_error(run_config(w, c), EINVAL, "the uts namespace to join is the host's", "own name");
  c.spec = String();
  expect_ran(run_config(w, c), "own namespaces, unchanged");
}

}  // namespace

int main() {
  return in_world([](World& world) {
    propagation_of_the_root(world);
    proc_is_proc(world);
    paths(world);
    hidden_and_read_only(world);
    cgroups(world);
    cgroup_without_privileges(world);
    joined_namespaces(world);
  });
}
