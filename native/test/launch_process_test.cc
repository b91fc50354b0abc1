// The process of a container: descriptors, identity, terminal, filter, capabilities, and those that join it later.
#include "core/live_mounts.h"
#include "core/user_namespace.h"
#include "test/launch.h"

using namespace caisson;
using namespace caisson::test;

namespace {

void descriptors_and_users(World& w, bool user) {
  Pod pod = make_pod(user, false);
  pod.ns.root_uid = pod.ns.root_gid = 0;  // as after a re-execution that passed descriptors only
  ContainerOptions o;
  o.user = user;
  {
    constexpr const char* kFds[] = {
        "sh", "-c", "ls /proc/self/fd; id; echo HOME=$HOME; touch /tmp/a /root/b 2>&1; cat /proc/self/status"};
    PlanBuilder b = container(w, o, kFds);
    b.process().flags |= kProcessLookupUser | kProcessSetHome;
    b.process().user = b.string("web");
    b.add(Section::kGroups, u32{3003});
    Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
    expect_ran(run, "user by name");
    CHECK(run.ready.uid == 1000 && run.ready.gid == 1001 && run.ready.group_count == 3);
    CHECK(has(run.output, "uid=1000(web) gid=1001(www) groups=1001(www),2002(extra),3003"));
    CHECK(!has(run.output, "2003"));
    CHECK(has(run.output, "HOME=/home/web"));
    CHECK(run.output.view().starts_with("0\n1\n2\n3\n"));  // 3 is the directory that ls reads
    CHECK(!has(run.output, "\n4\n"));
    CHECK(has(run.output, "CapEff:\t0000000000000000") || has(run.output, "CapEff:\t00000000a80425fb"));
  }
  struct Case {
    const char* text;
    bool fails;
    u32 uid;
    u32 gid;
    const char* message;
  };
  constexpr Case kCases[] = {
      {"", false, 0, 0, ""},
      {"1000", false, 1000, 1001, ""},
      {"4242", false, 4242, 0, ""},
      {"1:7", false, 1, 7, ""},
      {"web:extra", false, 1000, 2002, ""},
      {"nobody-here", true, 0, 0, "unable to find user \"nobody-here\": no matching entry in /etc/passwd"},
      {"web:nogroup", true, 0, 0, "unable to find group \"nogroup\": no matching entry in /etc/group"},
      {"4294967296", true, 0, 0, "must be below 4294967295"},
      {"4294967295", true, 0, 0, "must be below 4294967295"},
      {"-1", true, 0, 0, "unable to find user \"-1\""},
      {" 1", true, 0, 0, "unable to find user \" 1\""},
      {"1:", true, 0, 0, "a group is missing"},
      {"0x0", true, 0, 0, "unable to find user \"0x0\""},
  };
  for (const Case& c : kCases) {
    if (user && c.uid > 65535) continue;
    constexpr const char* kTrue[] = {"busybox", "true"};
    PlanBuilder b = container(w, o, kTrue);
    b.process().flags |= kProcessLookupUser;
    b.process().user = b.string(c.text);
    Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
    bool right = c.fails ? run.failed && has(run.error.message, c.message)
                         : !run.failed && run.ready.uid == c.uid && run.ready.gid == c.gid && run.code == 0;
    if (!right)
      fprintf(stderr, "user \"%s\": %s, %u:%u\n", c.text, run.error.message.c_str(), run.ready.uid, run.ready.gid);
    CHECK(right);
  }
}

void exec_into(World& w, bool user) {
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  constexpr const char* kSleep[] = {"sleep", "1000"};
  PlanMap plan = sealed(container(w, o, kSleep));
  Run main = start_container(w, &pod, plan.view());
  expect_ran(main, "exec: container");
  release(main, plan.view());
  auto exec = [&](string_view user_text, const char* command) {
    PlanBuilder b(PlanKind::kExec);
    b.process().cwd = b.string("/tmp");
    b.process().flags = kProcessCapabilities | kProcessLookupUser | kProcessNoNewPrivileges | kProcessNewKeyring;
    b.process().user = b.string(user_text);
    b.head().id = b.string("joined");
    for (u32 set : {kCapBounding, kCapEffective, kCapPermitted}) b.process().capabilities[set] = 0xa80425fb;
    for (const char* arg : {"sh", "-c", command}) b.add_text(Section::kArgs, arg);
    b.add_text(Section::kEnv, "PATH=/bin");
    PlanMap exec_plan = sealed(static_cast<PlanBuilder&&>(b));
    Run run = start(exec_plan.view(), [&](int out) {
      Fd cgroup(open(w.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      ExecRequest request;
      request.plan = &exec_plan.view();
      request.init = main.pidfd.get();
      request.cgroup = cgroup.get();
      request.stdio[1] = request.stdio[2] = out;
      return begin_exec(request);
    });
    if (run.failed) return run;
    release(run, exec_plan.view());
    end(run);
    return run;
  };
  Run a = exec("", "pwd; hostname; id -u; ls /proc/self/fd; cat /proc/1/comm /proc/self/cgroup /marker; exit 3");
  expect_ran(a, "exec");
  CHECK(a.code == 3);
  CHECK(has(a.output, "/tmp\nweb-0\n0\n0\n1\n2\n3\nsleep\n"));
  CHECK(has(a.output, "0::/\non-top\n"));
  Run u = exec("1", "id -u; echo out > /dev/stdout");
  CHECK(u.code == 0 && has(u.output, "1\nout\n"));
  // The keys of whoever starts it are not the container's.
  Run keys = exec("", "cat /proc/keys");
  CHECK(has(keys.output, " _ses.joined: ") && !has(keys.output, "key-of-the-caller"));
  Run k = exec("web", "kill -9 $$");
  CHECK(k.signal == SIGKILL);
  Run bad = exec("ghost", "true");
  CHECK(bad.failed && has(bad.error.message, "unable to find user \"ghost\""));
  sys::pidfd_send_signal(main.pidfd.get(), SIGKILL);
  end(main);
  CHECK(main.signal == SIGKILL);
  Run dead = exec("", "true");
  CHECK(dead.failed && dead.error.err == ESRCH);
}

void terminal(World& w, bool user) {
  Pod pod = make_pod(user, false);
  ContainerOptions o;
  o.user = user;
  constexpr const char* kTty[] = {"sh", "-c",
                                  "tty; stty size; ls -l /dev/console /dev/pts/0; echo err >&2; stat -c %u /dev/pts/0"};
  PlanBuilder b = container(w, o, kTty);
  b.process().flags |= kProcessTerminal | kProcessConsoleSize;
  b.process().rows = 33;
  b.process().columns = 99;
  b.process().uid = 1000;
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, &pod, plan.view());
  expect_ran(run, "terminal");
  CHECK(run.terminal);
  release(run, plan.view());
  run.out = static_cast<Fd&&>(run.terminal);
  end(run);
  CHECK(has(run.output, "/dev/pts/0\r\n33 99\r\n") && has(run.output, "err\r\n"));
  CHECK(has(run.output, "136,   0") && has(run.output, "/dev/console"));
  CHECK(has(run.output, "\n1000\r\n"));
  if (run.code != 0) fprintf(stderr, "%s", run.output.c_str());
  CHECK(run.code == 0);
}

u64 filter(u16 code, u8 jt, u8 jf, u32 k) {
  uapi::SockFilter f = {code, jt, jf, k};
  u64 out = 0;
  memcpy(&out, &f, sizeof out);
  return out;
}

// A container with CAP_SYS_PTRACE looks through /proc/<pid>/root of all that it sees: it does not see the process that
// joins it before that has the container's root.
void unseen_with_the_hosts_root(World& w, bool mounts) {
  constexpr u64 kCapSysPtrace = u64{1} << 19;
  const String marker = concat(w.dir, "/of-the-host");
  write_file(marker, "secret\n");
  const String watch = concat("echo watching; while :; do for p in /proc/[0-9]*; do [ -e $p/root", marker,
                              " ] && echo seen && exit; done; done");
  const char* const args[] = {"sh", "-c", watch.c_str()};
  PlanBuilder b = container(w, {}, args);
  for (u32 set : {kCapBounding, kCapPermitted, kCapEffective}) b.process().capabilities[set] |= kCapSysPtrace;
  Pod pod = make_pod(false, false);
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run main = start_container(w, &pod, plan.view());
  expect_ran(main, "watcher");
  release(main, plan.view());
  char first[16] = {};
  CHECK(read(main.out.get(), first, sizeof first) > 0);
  PlanBuilder m(PlanKind::kContainer);
  m.ns(NamespaceType::kMount).mode = NamespaceMode::kNew;
  m.process().cwd = m.string("/");
  m.root().path = m.string("/");
  m.root().kind = RootKind::kBind;
  m.add_text(Section::kArgs, "none");
  add_bind(m, concat(w.dir, "/volume"), "/live", 0);
  PlanMap mount_plan = sealed(static_cast<PlanBuilder&&>(m));
  for (int i = 0; i < 200; ++i) {
    if (mounts) {
      auto made = change_live_mounts({&mount_plan.view(), main.pidfd.get(), -1, i % 2 != 0});
      CHECK(made && made->kind == 0);
      continue;
    }
    PlanBuilder e(PlanKind::kExec);
    e.process().cwd = e.string("/");
    for (const char* arg : {"busybox", "true"}) e.add_text(Section::kArgs, arg);
    e.add_text(Section::kEnv, "PATH=/bin");
    PlanMap exec_plan = sealed(static_cast<PlanBuilder&&>(e));
    Run run = start(exec_plan.view(), [&](int out) {
      ExecRequest request;
      request.plan = &exec_plan.view();
      request.init = main.pidfd.get();
      request.stdio[1] = request.stdio[2] = out;
      return begin_exec(request);
    });
    release(run, exec_plan.view());
    end(run);
  }
  sys::pidfd_send_signal(main.pidfd.get(), SIGKILL);
  end(main);
  CHECK(!has(main.output, "seen"));
}

// The filter is loaded with and without no_new_privs, for root and others; ambient capabilities survive the exec.
void filter_and_ambient(World& w, bool user) {
  Pod pod = make_pod(user, false);
  for (bool nnp : {false, true}) {
    for (u32 uid : {0u, 1000u}) {
      constexpr const char* kArgs[] = {
          "sh", "-c", "grep -E 'Cap|Seccomp:|NoNew' /proc/self/status; hostname forbidden 2>&1; echo end"};
      ContainerOptions o;
      o.user = user;
      PlanBuilder b = container(w, o, kArgs);
      b.process().uid = uid;
      if (!nnp) b.process().flags &= ~u32{kProcessNoNewPrivileges};
      b.process().capabilities[kCapInheritable] = b.process().capabilities[kCapAmbient] =
          1u << 10;                                                                     // CAP_NET_BIND_SERVICE
      b.add(Section::kSeccomp, filter(0x20, 0, 0, 0));                                  // load the number
      b.add(Section::kSeccomp, filter(0x15, 0, 1, static_cast<u32>(SYS_sethostname)));  // equal?
      b.add(Section::kSeccomp, filter(0x06, 0, 0, 0x00050000 | ENOTNAM));               // fail
      b.add(Section::kSeccomp, filter(0x06, 0, 0, 0x7fff0000));                         // allow
      Run run = run_container(w, &pod, static_cast<PlanBuilder&&>(b));
      expect_ran(run, "seccomp");
      CHECK(has(run.output, nnp ? "NoNewPrivs:\t1" : "NoNewPrivs:\t0"));
      CHECK(has(run.output, "Seccomp:\t2"));
      CHECK(has(run.output, "CapAmb:\t0000000000000400") && has(run.output, "CapInh:\t0000000000000400"));
      // execve(2) gives a non-root process its ambient set only; root gets all that is permitted.
      CHECK(has(run.output, uid == 0 ? "CapEff:\t00000000a80425fb" : "CapEff:\t0000000000000400"));
      CHECK(has(run.output, "XENIX named type file") || has(run.output, "Not a XENIX") ||
            has(run.output, "No error information"));
      if (!has(run.output, "end")) fprintf(stderr, "%s", run.output.c_str());
    }
  }
}

// What is particular to a user namespace: ids on disk and outside, namespaces owned by it.
void user_namespace(World& w) {
  Pod pod = make_pod(true, false);
  ContainerOptions o;
  o.user = true;
  constexpr const char* kTouch[] = {
      "sh", "-c",
      "cat /proc/self/uid_map; echo hi > /made; mkdir /dir; stat -c '%u %g' /made / /bin/sh "
      "/dev/shm /volume/f; echo v > /volume/g; busybox chown 5:6 /made; busybox mknod /x c 1 3 2>&1; "
      "echo >/marker; stat -c %t,%T /dev/zero; busybox ip link set lo down && echo lo-down; sleep 1000"};
  shell(
      concat("mkdir -p ", w.dir, concat("/idvol; chmod 755 ", w.dir, concat("/idvol; echo f > ", w.dir, "/idvol/f"))));
  PlanBuilder b = container(w, o, kTouch);
  for (u32 set : {kCapBounding, kCapEffective, kCapPermitted}) b.process().capabilities[set] |= 1u << 12;
  String upper(b.string(w.upper()).length == 0 ? string_view() : string_view());
  add_bind(b, concat(w.dir, "/idvol"), "/volume", 0, kMountRecursive | kMountIdmap);
  b.add(Section::kRlimits, RlimitEntry{100, 200, 7, 0});
  PlanMap plan = sealed(static_cast<PlanBuilder&&>(b));
  Run run = start_container(w, &pod, plan.view());
  expect_ran(run, "user namespace");
  release(run, plan.view());
  char buffer[512];
  while (!has(run.output, "lo-down")) {
    ssize_t n = read(run.out.get(), buffer, sizeof buffer);
    if (n <= 0) break;
    run.output.append({buffer, static_cast<size_t>(n)});
  }
  CHECK(has(run.output, "100000      65536"));
  CHECK(has(run.output, "0 0\n0 0\n0 0\n0 0\n0 0\n"));
  CHECK(has(run.output, "Operation not permitted"));
  CHECK(has(run.output, "1,5\n") && has(run.output, "lo-down"));
  if (!has(run.output, "lo-down")) fprintf(stderr, "%s", run.output.c_str());
  String path(string_view("/proc/"));
  path.append_u64(static_cast<u64>(run.pid));
  String status = read_file(concat(path, "/status").c_str());
  CHECK(has(status, "Uid:\t100000\t100000\t100000\t100000"));
  CHECK(has(read_file(concat(path, "/limits").c_str()), "Max open files            100                  200"));
  struct stat st = {};
  CHECK(stat(concat(w.dir, "/idvol/g").c_str(), &st) == 0 && st.st_uid == 0);
  String made(plan.view().text(plan.view().root().upper));
  made.append("/upper/made");
  // On disk the ids are those of the image, whatever the mapping.
  CHECK(stat(made.c_str(), &st) == 0 && st.st_uid == 5 && st.st_gid == 6);
  if (st.st_uid != 5) fprintf(stderr, "%s is %u:%u on disk\n", made.c_str(), st.st_uid, st.st_gid);
  sys::pidfd_send_signal(run.pidfd.get(), SIGKILL);
  end(run);
}

// A key that only a process with this session keyring sees.
void make_own_key() {
  constexpr int kSessionKeyring = -3;
  constexpr int kSetPermissions = 5;
  constexpr u32 kPossessorAll = 0x3f000000;
  CHECK(sys::join_session_keyring(nullptr) >= 0);
  const long key = syscall(SYS_add_key, "user", "key-of-the-caller", "x", 1, kSessionKeyring);
  CHECK(key >= 0 && syscall(SYS_keyctl, kSetPermissions, key, kPossessorAll) == 0);
  CHECK(has(read_file("/proc/keys"), "key-of-the-caller"));
}

}  // namespace

int main() {
  return in_world([](World& world) {
    make_own_key();
    for (bool user : {false, true}) {
      descriptors_and_users(world, user);
      exec_into(world, user);
      if (!user) unseen_with_the_hosts_root(world, false), unseen_with_the_hosts_root(world, true);
      terminal(world, user);
      filter_and_ambient(world, user);
    }
    user_namespace(world);
  });
}
