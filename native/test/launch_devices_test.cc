// Device nodes and the links beside them: linux.devices, the default ones, those that a user namespace is lent.
#include <sys/sysmacros.h>

#include "test/launch_config.h"

using namespace caisson;
using namespace caisson::test;

namespace {

constexpr char kUser[] = R"({"type":"mount"},{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"user"})";
constexpr char kMaps[] =
    R"(,"uidMappings":[{"containerID":0,"hostID":100000,"size":65536}],"gidMappings":[{"containerID":0,"hostID":100000,"size":65536}])";

// A root of the test's own, whose /dev is not mounted over.
String fresh_root(World& w, const char* name) {
  String root = concat(w.dir, "/", name);
  shell(concat(concat("cp -a ", w.dir, "/bind "), root));
  shell(concat(concat("mkdir -p ", root, "/dev/pts "), root, "/opt"));
  return root;
}

void defaults(World& w) {
  Config c;
  c.script =
      "cd /dev; for f in null zero full random urandom tty; do stat -c '%n %a %t:%T %u:%g %F' $f; done; "
      "for f in fd stdin stdout stderr ptmx; do echo $f $(readlink $f); done; test -e /proc/kcore && echo core; "
      "readlink core && echo core";
  Run run = run_config(w, c);
  expect_output(run,
                "null 666 1:3 0:0 character special file\nzero 666 1:5 0:0 character special file\n"
                "full 666 1:7 0:0 character special file\nrandom 666 1:8 0:0 character special file\n"
                "urandom 666 1:9 0:0 character special file\ntty 666 5:0 0:0 character special file\n"
                "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n"
                "ptmx pts/ptmx\n",
                "defaults");
  // a kernel may have no /proc/kcore
  if (access("/proc/kcore", F_OK) != 0) CHECK(!has(run.output, "core\n"));
  if (access("/proc/kcore", F_OK) == 0) CHECK(has(run.output, "core\n/proc/kcore\ncore\n"));
  // runtime-linux.md: no links to what is not there
  c.plain = true;
  c.root = fresh_root(w, "no-proc");
  c.script = "ls /dev";
  expect_output(run_config(w, c), "full\nnull\nptmx\npts\nrandom\ntty\nurandom\nzero\n", "without /proc");
  c.mounts = String(R"(,{"destination":"/dev","type":"bind","source":")");
  c.mounts.append(w.dir).append(R"(/volume","options":["bind"]})");
  expect_ran(run_config(w, c), "bound /dev");
  CHECK(access(concat(w.dir, "/volume/null").c_str(), F_OK) != 0);
}

void listed(World& w) {
  Config c;
  c.linux =
      String(R"(,"devices":[{"path":"/dev/a","type":"c","major":10,"minor":666,"fileMode":432,"uid":1000,"gid":7},)"
             R"({"path":"/opt/deep/b","type":"b","major":8,"minor":66,"fileMode":33206},)"
             R"({"path":"/dev/u","type":"u","major":1,"minor":5},)"
             R"({"path":"/dev/p","type":"p","fileMode":384,"uid":3},)"
             R"({"path":"/dev/ptmx","type":"c","major":5,"minor":2},)"
             R"({"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":438}])");
  c.script =
      "for f in /dev/a /opt/deep/b /dev/u /dev/p /dev/null; do stat -c '%n %a %t:%T %u:%g %F' $f; done; readlink "
      "/dev/ptmx";
  expect_output(run_config(w, c),
                "/dev/a 660 a:29a 1000:7 character special file\n/opt/deep/b 666 8:42 0:0 block special file\n"
                "/dev/u 666 1:5 0:0 character special file\n/dev/p 600 0:0 3:0 fifo\n"
                "/dev/null 666 1:3 0:0 character special file\npts/ptmx\n",
                "listed");
}

void what_is_there(World& w) {
  Config c;
  c.plain = true;
  c.root = fresh_root(w, "with-nodes");
  String node = concat(c.root, "/opt/node");
  if (mknod(node.c_str(), S_IFCHR | 0600, makedev(1, 5)) != 0 || chown(node.c_str(), 5, 6) != 0) abort();
  if (mknod(concat(c.root, "/dev/ptmx").c_str(), S_IFCHR | 0666, makedev(5, 2)) != 0) abort();
  auto with = [&](const char* device) {
    c.linux = concat(R"(,"devices":[)", device, "]");
    return run_config(w, c);
  };
  c.script = "stat -c '%a %u:%g' /opt/node; readlink /dev/ptmx";
  // crun 1.24: the owner of a node that is there is somebody's choice
  expect_output(with(R"({"path":"/opt/node","type":"c","major":1,"minor":5,"uid":9})"), "600 5:6\npts/ptmx\n",
                "the same");
  expect_error(with(R"({"path":"/opt/node","type":"c","major":1,"minor":9})"), EEXIST,
               "device \"/opt/node\": file exists (something else is there already)", "another number");
  expect_error(with(R"({"path":"/opt/node","type":"b","major":1,"minor":5})"), EEXIST, "\"/opt/node\"", "another type");
  expect_error(with(R"({"path":"/etc/passwd","type":"p"})"), EEXIST, "\"/etc/passwd\"", "a file");
  // CVE-2026-41579, CVE-2026-47766: nodes and links where a symlink of the image leads
  shell(concat(concat("mkdir ", w.dir, "/outside; rm -rf "), c.root,
               concat("/dev; ln -s ", w.dir, concat("/outside ", c.root, "/dev"))));
  c.linux = String();
  Run run = run_config(w, c);
  CHECK(run.failed && run.error.err == ELOOP);
  CHECK(rmdir(concat(w.dir, "/outside").c_str()) == 0);
}

void message_queues(World& w) {
  Config c;
  c.mounts = String(R"(,{"destination":"/dev/mqueue","type":"mqueue","source":"mqueue"})");
  c.script = "stat -c '%a %u:%g' /dev/mqueue; touch /dev/mqueue/a && stat -c %u:%g /dev/mqueue/a";
  expect_output(run_config(w, c), "1777 0:0\n0:0\n", "message queues");
  c.namespaces = kUser;
  c.linux = String(kMaps);
  expect_output(run_config(w, c), "1777 0:0\n0:0\n", "message queues of a user namespace");
}

void lent(World& w) {
  shell(concat("chmod 755 ", w.dir));
  Config c;
  c.namespaces = kUser;
  c.linux = concat(kMaps, R"(,"devices":[{"path":"/dev/p","type":"p","fileMode":384,"uid":3}])");
  c.script =
      "for f in null zero tty; do stat -c '%n %t:%T %F' /dev/$f; done; stat -c '%a %u %F' /dev/p; echo x > /dev/null "
      "&& echo written; "
      "busybox mount -o bind /etc/passwd /dev/null && cat /dev/null | busybox head -1";
  String before = read_file("/proc/self/mountinfo");
  Run run = run_config(w, c);
  expect_output(run,
                "/dev/null 1:3 character special file\n/dev/zero 1:5 character special file\n/dev/tty 5:0 character "
                "special file\n"
                "600 3 fifo\nwritten\nroot:x:0:0",
                "lent");
  // What the container mounts over its nodes stays in the container: they are no peers of the host's.
  struct stat st = {};
  CHECK(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
  CHECK(read_file("/proc/self/mountinfo").view() == before.view());
  c.linux = concat(kMaps, R"(,"devices":[{"path":"/dev/null","type":"c","major":1,"minor":5}])");
  expect_error(run_config(w, c), ENODEV, "\"/dev/null\": no such device (not the device that was asked for)",
               "another");
  c.linux = concat(kMaps, R"(,"devices":[{"path":"/dev/not-here","type":"c","major":1,"minor":5}])");
  expect_error(run_config(w, c), ENOENT, "\"/dev/not-here\": no such file or directory", "not on the host");
}

}  // namespace

int main() {
  return in_world([](World& world) {
    defaults(world);
    listed(world);
    what_is_there(world);
    lent(world);
    message_queues(world);
  });
}
