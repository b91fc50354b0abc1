// The limit: a container by nothing but the system calls that it takes. No specification, no checks, no state, no second
// stage; what a runtime takes beyond this is its own.
//
//   bare run  LAYER SCRATCH CGROUP PROGRAM [ARGUMENT…]   births a container, waits for its end, takes it down
//   bare hold LAYER SCRATCH CGROUP PROGRAM [ARGUMENT…]   the same, and prints its pid at the start
//   bare exec PID PROGRAM [ARGUMENT…]                    runs a program in the namespaces of PID
//
// `run`: cgroup, clone3 into it with new mount, PID, UTS, IPC, cgroup and network namespaces, loopback up, overlay of LAYER with
// SCRATCH/{upper,work}, proc, /dev with six device nodes, devpts, shm, mqueue, sysfs, cgroup2, three bound files, masked and
// read-only paths as the service has them by default, pivot_root, capabilities, no seccomp filter, exec, wait, cgroup removed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Debian's musl has no kernel headers beside it: clone(2), capset(2), mount_setattr(2)
#define CLONE_INTO_CGROUP_ 0x200000000ULL
#define CLONE_NEWCGROUP_ 0x02000000
#define SYS_clone3_ 435
#define SYS_pidfd_open_ 434
#define CAPABILITY_VERSION_3 0x20080522
#define CAPABILITY_LAST 40
// chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod,
// audit_write, setfcap
#define CAPABILITIES 0xa80425fbULL

struct clone_arguments {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static void check(int result, const char *what) {
  if (result != -1) return;
  fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
  _exit(125);
}

static void make_file(const char *path) { close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644)); }

static void loopback_up(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  check(ioctl(descriptor, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS");
  close(descriptor);
}

static void assemble(const char *layer, const char *scratch) {
  char options[4096], root[2048], source[2048];
  check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
  snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", layer, scratch, scratch);
  snprintf(root, sizeof root, "%s/root", scratch);
  check(mount("overlay", root, "overlay", 0, options), "overlay");
  check(chdir(root), "chdir");
  check(mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "proc");
  check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
  mkdir("dev/pts", 0755), mkdir("dev/shm", 0755), mkdir("dev/mqueue", 0755);
  check(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "devpts");
  check(mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"), "shm");
  check(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "mqueue");
  check(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL), "sysfs");
  check(mount("cgroup", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL), "cgroup2");
  static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
    snprintf(source, sizeof source, "/dev/%s", devices[i]);
    make_file(source + 1);
    check(mount(source, source + 1, NULL, MS_BIND, NULL), source);
  }
  check(symlink("pts/ptmx", "dev/ptmx"), "ptmx");
  check(symlink("/proc/self/fd", "dev/fd"), "fd");
  static const char *const files[] = {"hostname", "hosts", "resolv.conf"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char target[64];
    snprintf(source, sizeof source, "%s/%s", scratch, files[i]);
    snprintf(target, sizeof target, "etc/%s", files[i]);
    make_file(target);
    check(mount(source, target, NULL, MS_BIND, NULL), source);
  }
  static const char *const masked[] = {"proc/kcore", "proc/keys", "proc/timer_list"};
  for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
    if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) < 0 && errno != ENOENT) check(-1, masked[i]);
  }
  static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
  for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
    if (mount(readonly[i], readonly[i], NULL, MS_BIND, NULL) < 0) {
      if (errno != ENOENT) check(-1, readonly[i]);
      continue;
    }
    check(mount(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), readonly[i]);
  }
  check((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
  check(umount2(".", MNT_DETACH), "umount2");
  check(chdir("/"), "chdir");
}

static void take_identity(void) {
  struct {
    uint32_t version;
    int pid;
  } header = {CAPABILITY_VERSION_3, 0};
  struct {
    uint32_t effective, permitted, inheritable;
  } sets[2] = {{CAPABILITIES, CAPABILITIES, 0}, {0, 0, 0}};
  for (int capability = 0; capability <= CAPABILITY_LAST; capability++) {
    if (!(CAPABILITIES >> capability & 1)) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  check((int)syscall(SYS_setgroups, 0, NULL), "setgroups");
  check((int)syscall(SYS_setresgid, 0, 0, 0), "setresgid");
  check((int)syscall(SYS_setresuid, 0, 0, 0), "setresuid");
  check((int)syscall(SYS_capset, &header, sets), "capset");
}

static int wait_for(pid_t pid) {
  int status;
  check(waitpid(pid, &status, __WALL), "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(int hold, const char *layer, const char *scratch, const char *cgroup, char **program) {
  check(mkdir(cgroup, 0755), cgroup);
  int directory = open(cgroup, O_PATH | O_CLOEXEC);
  check(directory, cgroup);
  struct clone_arguments arguments = {
      .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP_ | CLONE_INTO_CGROUP_ |
               CLONE_VFORK,
      .exit_signal = SIGCHLD,
      .cgroup = (uint64_t)directory,
  };
  pid_t pid = (pid_t)syscall(SYS_clone3_, &arguments, sizeof arguments);
  check(pid, "clone3");
  if (pid == 0) {
    check(sethostname("bare", 4), "sethostname");
    loopback_up();
    assemble(layer, scratch);
    take_identity();
    execve(program[0], program, (char *[]){"PATH=/bin:/usr/bin", NULL});
    check(-1, program[0]);
  }
  if (hold) {
    printf("%d\n", pid);
    fflush(stdout);
  }
  int status = wait_for(pid);
  check(rmdir(cgroup), "rmdir");
  return status;
}

static int enter(pid_t target, char **program) {
  int descriptor = (int)syscall(SYS_pidfd_open_, target, 0);
  check(descriptor, "pidfd_open");
  check(setns(descriptor, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP_), "setns");
  pid_t pid = vfork();
  check(pid, "vfork");
  if (pid == 0) {
    take_identity();
    execve(program[0], program, (char *[]){"PATH=/bin:/usr/bin", NULL});
    check(-1, program[0]);
  }
  return wait_for(pid);
}

int main(int count, char **arguments) {
  const char *verb = count > 1 ? arguments[1] : "";
  if (strcmp(verb, "exec") == 0 && count > 3) return enter(atoi(arguments[2]), arguments + 3);
  int hold = strcmp(verb, "hold") == 0;
  if ((hold || strcmp(verb, "run") == 0) && count > 5) return run(hold, arguments[2], arguments[3], arguments[4], arguments + 5);
  fputs("usage: bare run|hold LAYER SCRATCH CGROUP PROGRAM [ARGUMENT...] | bare exec PID PROGRAM [ARGUMENT...]\n", stderr);
  return 2;
}
