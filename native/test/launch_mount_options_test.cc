// The option words of mounts, as a container sees them: flags, remounts, options of file systems, propagation, id maps.
#include "test/launch_config.h"

using namespace caisson;
using namespace caisson::test;

namespace {

String mount_json(string_view destination, string_view type, string_view source, string_view options,
                  string_view more = {}) {
  String json(",{\"destination\":\"");
  json.append(destination).append("\",\"type\":\"").append(type).append("\",\"source\":\"").append(source);
  json.append("\",\"options\":[").append(options).append("]").append(more).append("}");
  return json;
}

// The line of mountinfo, from the mount point on, that a mount with these options shows.
void expect_shown(World& w, string_view options, string_view shown) {
  Config c;
  c.mounts = mount_json("/m", "tmpfs", "t", options);
  c.script = "grep ' /m ' /proc/self/mountinfo";
  expect_output(run_config(w, c), shown, String(options).c_str());
}

void words_of_a_new_mount(World& w) {
  expect_shown(w, R"("nosuid","nodev","noexec","noatime","nodiratime","mode=1777","size=64k")",
               " /m rw,nosuid,nodev,noexec,noatime,nodiratime - tmpfs t rw,size=64k");
  expect_shown(w, R"("ro","strictatime")", " /m ro - tmpfs t rw");
  expect_shown(w, R"("rro","rnosuid","nosymfollow")", " /m ro,nosuid,relatime,nosymfollow - tmpfs t rw");
  expect_shown(w, R"("sync","dirsync","lazytime")", " /m rw,relatime - tmpfs t rw,sync,dirsync,lazytime");
  expect_shown(w, R"("sync","async","lazytime","nolazytime")", " /m rw,relatime - tmpfs t rw,");
  expect_shown(w, R"("mand","loud","silent","defaults","iversion","nosuid")",
               " /m rw,nosuid,relatime - tmpfs t rw,mand");
  expect_shown(w, R"("shared")", " /m rw,relatime shared:");
  expect_shown(w, R"("unbindable")", " /m rw,relatime unbindable - ");
  Config c;
  c.mounts = mount_json("/m", "tmpfs", "t", R"("size=much")");
  expect_error(run_config(w, c), EINVAL, "mount \"/m\": invalid argument (tmpfs: Bad value for 'size')", "bad option");
  c.mounts = mount_json("/m", "tmpfs", "t", R"("nonsense")");
  expect_error(run_config(w, c), EINVAL, "(tmpfs: Unknown parameter 'nonsense')", "unknown option");
  c.mounts = mount_json("/m", "nosuchfs", "t", "");
  expect_error(run_config(w, c), ENODEV, "mount \"/m\": no such device", "unknown file system");
}

void remounts(World& w) {
  Config c;
  c.mounts = concat(mount_json("/m", "tmpfs", "t", R"("size=64k")"), mount_json("/m/in", "tmpfs", "u", ""));
  String base(c.mounts.view());
  c.script = "grep ' /m' /proc/self/mountinfo";
  auto with = [&](string_view options) {
    c.mounts = concat(base, mount_json("/m", "", "", options));
    return run_config(w, c);
  };
  expect_output(with(R"("remount","ro","nosuid")"), " /m ro,nosuid,relatime - tmpfs t rw,size=64k", "remount flags");
  expect_output(with(R"("remount","size=128k","sync")"), " /m rw,relatime - tmpfs t rw,sync,size=128k", "remount data");
  Run below = with(R"("remount","rro")");
  expect_output(below, " /m ro,relatime", "remount below");
  expect_output(below, " /m/in ro,relatime", "remount below");
  expect_output(with(R"("remount","noexec","iversion")"), " /m rw,noexec,relatime - tmpfs t rw,size=64k", "iversion");
  expect_output(with(R"("remount","noiversion","shared")"), " /m rw,relatime shared:", "noiversion");
  expect_error(with(R"("remount","size=x")"), EINVAL, "mount attributes \"/m\": invalid argument (tmpfs: Bad value",
               "data");
  c.mounts = mount_json("/etc", "", "", R"("remount","ro")");
  expect_error(run_config(w, c), EINVAL, "\"/etc\": invalid argument (nothing is mounted there", "nothing there");
}

void what_a_tmpfs_covers(World& w) {
  Config c;
  shell(concat(concat("mkdir -p ", w.dir, "/bind/kept; chmod 1735 "), w.dir, "/bind/kept"));
  write_file(concat(w.dir, "/bind/kept/file"), "x");
  c.mounts = mount_json("/kept", "tmpfs", "t", "");
  c.script = "stat -c %a /kept /fresh; ls /kept";
  c.mounts.append(mount_json("/fresh", "tmpfs", "t", ""));
  expect_output(run_config(w, c), "1735\n1777\n", "mode of what is covered");
  c.mounts =
      concat(mount_json("/kept", "tmpfs", "t", R"("mode=700")"), mount_json("/fresh", "tmpfs", "t", R"("mode=0711")"));
  expect_output(run_config(w, c), "700\n711\n", "mode that is said");
  c.mounts = concat(mount_json("/kept", "tmpfs", "t", R"("tmpcopyup","mode=700","ro")"),
                    mount_json("/fresh", "tmpfs", "t", ""));
  c.script = "stat -c %a /kept; ls /kept; touch /kept/x 2>&1";
  expect_output(run_config(w, c), "700\nfile\ntouch: /kept/x: Read-only file system", "copied up");
  c.mounts = mount_json("/kept", "tmpfs", "t", R"("tmpcopyup")");
  c.script = "stat -c %a /kept";
  expect_output(run_config(w, c), "1735\n", "copied mode");
}

// Mount points and nodes are made in what is read-only in the end.
void read_only_in_the_end(World& w) {
  Config c;
  c.mounts = concat(
      concat(concat(mount_json("/dev", "tmpfs", "t", R"("ro","mode=755")"), mount_json("/dev/shm", "tmpfs", "shm", "")),
             mount_json("/m", "tmpfs", "t", R"("rro")")),
      mount_json("/m/in", "tmpfs", "u", ""));
  c.script = "ls -d /dev/null /dev/shm /m/in; touch /dev/x /m/x /m/in/x 2>&1";
  Run run = run_config(w, c);
  expect_output(run, "/dev/null\n/dev/shm\n/m/in\n", "read-only");
  expect_output(run, "/dev/x: Read-only file system\ntouch: /m/x: Read-only file system\n", "read-only");
  CHECK(!has(run.output, "/m/in/x"));
}

void binds(World& w) {
  String volume = concat(w.dir, "/volume");
  shell(concat("mkdir -p ", volume));
  String below = concat(volume, "/sub");
  if (mount("tmpfs", volume.c_str(), "tmpfs", 0, "") != 0 || mkdir(below.c_str(), 0755) != 0 ||
      mount("tmpfs", below.c_str(), "tmpfs", 0, "") != 0)
    abort();
  Config c;
  c.script = "grep ' /m' /proc/self/mountinfo";
  c.mounts = mount_json("/m", "none", volume, R"("rbind","ro","nosuid")");
  Run run = run_config(w, c);
  expect_output(run, " /m ro,nosuid,relatime - ", "bind flags");
  expect_output(run, " /m/sub rw,relatime - ", "not those below");
  c.mounts = mount_json("/m", "bind", volume, R"("rbind","rro","rnoexec","noatime")");
  run = run_config(w, c);
  expect_output(run, " /m ro,noexec,noatime - ", "recursive flags");
  expect_output(run, " /m/sub ro,noexec,relatime - ", "recursive flags below");
  c.mounts = concat(mount_json("/m", "bind", volume, R"("bind")"),
                    mount_json("/m", "bind", volume, R"("bind","remount","ro")"));
  run = run_config(w, c);
  expect_output(run, " /m ro,relatime - ", "bind with remount");
  CHECK(!has(run.output, "/m/sub"));
  // the world's tree is shared: /m is a slave of it with peers of its own
  c.mounts = mount_json("/m", "bind", volume, R"("rbind","rslave","rshared")");
  run = run_config(w, c);
  CHECK(has(run.output, "shared:") && has(run.output, "master:"));
  c.mounts = mount_json("/m", "bind", volume, R"("rbind","rshared","rslave")");
  run = run_config(w, c);
  expect_output(run, " /m rw,relatime master:", "slave after shared");
  c.mounts = mount_json("/m", "bind", volume, R"("rbind","runbindable")");
  expect_output(run_config(w, c), " /m/sub rw,relatime unbindable - ", "unbindable");
  c.mounts = mount_json("/m", "bind", volume, R"("rbind")");
  for (const char* root : {"rslave", "slave"}) {
    c.linux = concat(R"(,"rootfsPropagation":")", root, "\"");
    run = run_config(w, c);
    CHECK(has(run.output, " /m/sub rw,relatime master:") == (root[0] == 'r'));
    CHECK(has(run.output, " /m/sub rw,relatime - ") == (root[0] == 's'));
  }
  c.linux = String();
  umount2(volume.c_str(), MNT_DETACH);
  c.mounts = mount_json("/m", "bind", concat(volume, "/absent"), R"("bind")");
  expect_error(run_config(w, c), ENOENT, "for \"/m\": no such file or directory", "missing source");
}

constexpr char kMaps[] =
    R"(,"uidMappings":[{"containerID":0,"hostID":1000,"size":10}],"gidMappings":[{"containerID":0,"hostID":2000,"size":10}])";
constexpr char kOtherMaps[] =
    R"(,"uidMappings":[{"containerID":0,"hostID":3000,"size":10}],"gidMappings":[{"containerID":0,"hostID":3000,"size":10}])";
constexpr char kUserNamespace[] =
    R"(,"uidMappings":[{"containerID":0,"hostID":100000,"size":65536}],"gidMappings":[{"containerID":0,"hostID":100000,"size":65536}])";

void id_maps(World& w) {
  String volume = concat(w.dir, "/owned");
  shell(concat("mkdir -p ", volume));
  shell(concat(concat("touch ", volume, "/f; chown 3:4 "), volume, "/f"));
  Config c;
  c.script = "stat -c %u:%g /m/f /n/f /o/f; id -u";
  String two =
      concat(mount_json("/n", "bind", volume, R"("rbind")", kOtherMaps), mount_json("/o", "bind", volume, R"("bind")"));
  c.mounts = concat(mount_json("/m", "bind", volume, R"("bind","idmap")", kMaps), two);
  expect_output(run_config(w, c), "1003:2004\n3003:3004\n3:4\n0\n", "mappings of the mounts' own");
  c.mounts = concat(mount_json("/m", "bind", volume, R"("rbind","ridmap")", kMaps), two);
  expect_output(run_config(w, c), "1003:2004\n3003:3004\n3:4\n0\n", "recursively");

  shell(concat("chmod 755 ", w.dir));
  c.namespaces = R"({"type":"mount"},{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"user"})";
  c.linux = String(kUserNamespace);
  // In the container's user namespace its own ids are shown, and others as nobody's.
  c.mounts = concat(mount_json("/m", "bind", volume, R"("bind","idmap")"),
                    mount_json("/n", "bind", volume, R"("bind")", kOtherMaps));
  c.mounts.append(mount_json(
      "/o", "bind", volume, R"("bind")",
      R"(,"uidMappings":[{"containerID":0,"hostID":100100,"size":10}],"gidMappings":[{"containerID":0,"hostID":100200,"size":10}])"));
  expect_output(run_config(w, c), "3:4\n65534:65534\n103:204\n0\n", "in a user namespace");
}

// proc cannot be idmapped; an idmapped mount cannot be once more.
void id_maps_refused(World& w) {
  Config c;
  c.mounts = mount_json("/m", "bind", "/proc/tty", R"("bind","idmap")", kMaps);
  expect_error(run_config(w, c), EINVAL, "cannot be idmapped", "proc");
  c.mounts = mount_json("/m", "bind", w.dir, R"("bind","idmap")");
  expect_error(run_config(w, c), EINVAL, "needs a user namespace, or mappings of the mount's own", "no mappings");
}

// lowerdir= of twelve directories, too long for fsconfig(2).
String long_lower(World& w) {
  String lower;
  for (int i = 0; i < 12; ++i) {
    String name = concat(w.dir, "/a-lower-directory-with-a-long-name-");
    name.append_u64(static_cast<u64>(i));
    shell(concat(concat("mkdir -p ", name, "; touch "), name, concat("/f", String().append_u64(static_cast<u64>(i)))));
    if (i != 0) lower.append(':');
    lower.append(name);
  }
  CHECK(lower.size() > 255);
  return lower;
}

void long_options(World& w) {
  const String lower = long_lower(w);
  Config c;
  c.mounts = mount_json("/m", "overlay", "o", concat("\"nosuid\",\"lowerdir=", lower, "\""));
  c.script = "ls /m | busybox wc -l; grep ' /m ' /proc/self/mountinfo; touch /m/x 2>&1";
  Run run = run_config(w, c);
  expect_output(run, "12\n", "overlay of long options");
  expect_output(run, " /m rw,nosuid,relatime - overlay o ", "overlay of long options");
  expect_output(run, "/m/x: Read-only file system", "overlay without an upper directory");
  // short enough for fsconfig(2): paths of the host all the same
  c.mounts = mount_json("/m", "overlay", "o", concat(concat("\"lowerdir=", w.dir, "/volume:"), w.dir, "/bind/etc\""));
  c.script = "ls /m";
  expect_output(run_config(w, c), "group\npasswd\n", "overlay of short options");
}

// Another container has the volume that a mount lies in, and swaps the directory for a symlink: the options are those
// of the mount all the same, and not of one that the symlink leads to.
void swapped_while_mounted(World& w) {
  const String volume = concat(w.dir, "/swapped");
  shell(concat(concat("mkdir -p ", volume, "/d/x; ln -s /other "), volume, "/link"));
  const int pid = fork();
  if (pid == 0) {
    if (sys::prctl(uapi::kPrSetPdeathsig, SIGKILL) != 0 || chdir(volume.c_str()) != 0) _exit(1);
    constexpr unsigned kExchange = 2;  // RENAME_EXCHANGE
    for (;;) syscall(SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "link", kExchange);
  }
  Config c;
  c.mounts = concat(mount_json("/vol", "bind", volume, "\"rbind\""), mount_json("/other/x", "tmpfs", "t", ""),
                    mount_json("/vol/d/x", "overlay", "o",
                               concat("\"nosuid\",\"nodev\",\"noexec\",\"lowerdir=", long_lower(w), "\"")));
  c.script = "grep ' - overlay o ' /proc/self/mountinfo";
  for (int i = 0; i < 100; ++i) expect_output(run_config(w, c), " rw,nosuid,nodev,noexec,relatime ", "swapped");
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

// Where SELinux has a policy the label is shown; where it is on without one, the kernel takes none; else it has no
// effect.
void labels(World& w) {
  Config c;
  c.linux = String(R"(,"mountLabel":"system_u:object_r:container_file_t:s0:c1,c2")");
  c.mounts = concat(mount_json("/m", "tmpfs", "t", ""), mount_json("/q", "mqueue", "mqueue", ""));
  c.script = "grep ' /m ' /proc/self/mountinfo";
  Run run = run_config(w, c);
  const bool on = access("/sys/fs/selinux/load", F_OK) == 0;
  if (!on) {
    expect_output(run, " - tmpfs t rw", "label without SELinux");
    CHECK(!has(run.output, "context="));
  } else if (run.failed) {
    expect_error(run, EINVAL, "(context)", "label without a policy");
  } else {
    expect_output(run, "context=\"system_u:object_r:container_file_t:s0:c1,c2\"", "label");
  }
}

}  // namespace

int main() {
  return in_world([](World& world) {
    words_of_a_new_mount(world);
    remounts(world);
    what_a_tmpfs_covers(world);
    read_only_in_the_end(world);
    binds(world);
    id_maps(world);
    id_maps_refused(world);
    long_options(world);
    swapped_while_mounted(world);
    labels(world);
  });
}
