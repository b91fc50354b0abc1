// A device program at work: attached to a fresh cgroup, asked from a process born there. Needs root and bpf(2).
#include "core/device_attach.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/compile/device_program.h"
#include "core/sys.h"
#include "test/check.h"

using namespace caisson;
using namespace caisson::compile;

namespace {

struct Probe {
  const char* name;
  int (*run)();  // 0 or errno
};

int try_open(const char* path, int flags) {
  const Fd fd(open(path, flags | O_CLOEXEC));
  return fd ? 0 : errno;
}

int try_mknod(mode_t type, unsigned major_number, unsigned minor_number) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/caisson-device-%d", getpid());
  if (mknod(path, type | 0600, makedev(major_number, minor_number)) != 0) return errno;
  return unlink(path) == 0 ? 0 : errno;
}

const Probe kProbes[] = {
    {"null rw", [] { return try_open("/dev/null", O_RDWR); }},
    {"zero r", [] { return try_open("/dev/zero", O_RDONLY); }},
    {"zero rw", [] { return try_open("/dev/zero", O_RDWR); }},
    {"full r", [] { return try_open("/dev/full", O_RDONLY); }},
    {"mknod c 1:7", [] { return try_mknod(S_IFCHR, 1, 7); }},
    {"mknod b 7:0", [] { return try_mknod(S_IFBLK, 7, 0); }},
    {"mknod fifo", [] { return try_mknod(S_IFIFO, 0, 0); }},
};
constexpr size_t kProbeCount = sizeof kProbes / sizeof kProbes[0];

// Answers the probes from inside the cgroup.
bool ask(int cgroup, u8 (&answers)[kProbeCount]) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  const Fd in(ends[0]);
  Fd out(ends[1]);
  uapi::CloneArgs args = {};
  args.flags = uapi::kCloneIntoCgroup;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<u64>(cgroup);
  const int pid = sys::clone3(args);
  if (pid < 0) return false;
  if (pid == 0) {
    u8 found[kProbeCount];
    for (size_t i = 0; i < kProbeCount; ++i) found[i] = static_cast<u8>(kProbes[i].run());
    _exit(write(out.get(), found, sizeof found) == sizeof found ? 0 : 1);
  }
  out.reset();
  const bool whole = read(in.get(), answers, sizeof answers) == sizeof answers;
  int status = 0;
  return waitpid(pid, &status, 0) == pid && status == 0 && whole;
}

void expect(int cgroup, const char* title, const u8 (&want)[kProbeCount]) {
  u8 got[kProbeCount] = {};
  CHECK(ask(cgroup, got));
  for (size_t i = 0; i < kProbeCount; ++i) {
    if (got[i] != want[i]) fprintf(stderr, "%s, %s: errno %d, expected %d\n", title, kProbes[i].name, got[i], want[i]);
    CHECK(got[i] == want[i]);
  }
}

Result<Fd> load(span<const DeviceRule> rules) {
  const Vec<u64> program = device_program(rules);
  return load_device_program({program.data(), program.size()});
}

}  // namespace

int main() {
  CHECK(load_device_program({}).error().err == EINVAL);
  CHECK(!attach_device_program(-1, -1, "nowhere"));
  if (geteuid() != 0) return printf("skipped: device programs need root\n"), test::done();
  const DeviceRule first[] = {
      {false, DeviceType::kAny, kDeviceAll, DeviceRule::kAny, DeviceRule::kAny},
      {true, DeviceType::kChar, kDeviceMknod, DeviceRule::kAny, DeviceRule::kAny},
      {true, DeviceType::kChar, kDeviceAll, 1, 3},
      {true, DeviceType::kChar, kDeviceRead, 1, 5},
  };
  auto program = load(first);
  if (!program && (program.error().err == EPERM || program.error().err == ENOSYS))
    return printf("skipped: bpf(2) is not permitted here\n"), test::done();
  CHECK(program);
  auto mount = find_cgroup_mount();
  if (!mount) return printf("skipped: no cgroup2 is mounted\n"), test::done();
  char name[64];
  snprintf(name, sizeof name, "caisson-device-test-%d", getpid());
  auto cgroup = cgroup_create(mount->dir.get(), name);
  if (!cgroup) return printf("skipped: cannot make a cgroup (%s)\n", strerror(cgroup.error().err)), test::done();
  Defer remove([&] { CHECK(cgroup_remove(mount->dir.get(), name)); });
  const int dir = cgroup->get();

  expect(dir, "no program", {0, 0, 0, 0, 0, 0, 0});
  CHECK(attach_device_program(dir, program->get(), name));
  expect(dir, "attached", {0, 0, EPERM, EPERM, 0, EPERM, 0});

  const DeviceRule second[] = {
      {false, DeviceType::kAny, kDeviceAll, DeviceRule::kAny, DeviceRule::kAny},
      {true, DeviceType::kBlock, kDeviceMknod, 7, DeviceRule::kAny},
      {true, DeviceType::kChar, kDeviceRead, 1, 7},
  };
  auto next = load(second);
  CHECK(next);
  CHECK(attach_device_program(dir, next->get(), name, program->get()));
  expect(dir, "replaced", {EPERM, EPERM, EPERM, 0, EPERM, 0, 0});

  // A program that is attached already cannot be attached beside itself, one that is not cannot be replaced.
  CHECK(!attach_device_program(dir, next->get(), name));
  CHECK(!attach_device_program(dir, next->get(), name, program->get()));
  remove.dismiss();
  CHECK(cgroup_remove(mount->dir.get(), name));
  return test::done();
}
