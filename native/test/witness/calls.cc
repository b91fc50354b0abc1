#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/witness/witness.h"

namespace caisson::witness {
namespace {

struct Call {
  const char* name;
  long (*make)();
};

constexpr int kNone = -1;

// Each harmless where it succeeds: on nothing, on a file of the container, or in the child alone.
const Call kCalls[] = {
    {"getpid", [] { return static_cast<long>(getpid()); }},
    {"getcwd",
     [] {
       char path[4096];
       return syscall(SYS_getcwd, path, sizeof path);
     }},
    {"uname",
     [] {
       return syscall(SYS_uname, mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
     }},
    {"sync_file_range", [] { return syscall(SYS_sync_file_range, kNone, 0, 0, 0); }},
    {"chmod", [] { return syscall(SYS_fchmodat, AT_FDCWD, "/data/file", 0644); }},
    {"chown", [] { return syscall(SYS_fchownat, AT_FDCWD, "/data/file", 1, 1, 0); }},
    {"mkdir", [] { return syscall(SYS_mkdirat, AT_FDCWD, "/data/made", 0700); }},
    {"link", [] { return syscall(SYS_linkat, AT_FDCWD, "/data/file", AT_FDCWD, "/data/linked", 0); }},
    {"mknod-null", [] { return syscall(SYS_mknodat, AT_FDCWD, "/data/null", S_IFCHR | 0600, makedev(1, 3)); }},
    {"mknod-zero", [] { return syscall(SYS_mknodat, AT_FDCWD, "/data/zero", S_IFCHR | 0600, makedev(1, 5)); }},
    {"mknod-kmsg", [] { return syscall(SYS_mknodat, AT_FDCWD, "/data/kmsg", S_IFCHR | 0600, makedev(1, 11)); }},
    {"mknod-fuse", [] { return syscall(SYS_mknodat, AT_FDCWD, "/data/fuse", S_IFCHR | 0600, makedev(10, 229)); }},
    {"mknod-loop", [] { return syscall(SYS_mknodat, AT_FDCWD, "/data/loop", S_IFBLK | 0600, makedev(7, 0)); }},
    {"mknod-fifo", [] { return syscall(SYS_mknodat, AT_FDCWD, "/data/fifo", S_IFIFO | 0600, 0); }},
    {"mount", [] { return static_cast<long>(mount("none", "/tmp", "tmpfs", 0, nullptr)); }},
    {"mount-bind", [] { return static_cast<long>(mount("/data", "/tmp", nullptr, MS_BIND, nullptr)); }},
    {"remount-root", [] { return static_cast<long>(mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND, nullptr)); }},
    {"umount-proc", [] { return static_cast<long>(umount2("/proc", MNT_DETACH)); }},
    {"fsopen", [] { return syscall(SYS_fsopen, "tmpfs", 0); }},
    {"open_tree", [] { return syscall(SYS_open_tree, AT_FDCWD, "/data", 1); }},
    {"pivot_root", [] { return syscall(SYS_pivot_root, "/data", "/data"); }},
    {"chroot", [] { return syscall(SYS_chroot, "/data"); }},
    {"unshare-user", [] { return static_cast<long>(unshare(CLONE_NEWUSER)); }},
    {"unshare-mount", [] { return static_cast<long>(unshare(CLONE_NEWNS)); }},
    {"unshare-net", [] { return static_cast<long>(unshare(CLONE_NEWNET)); }},
    {"clone3", [] { return syscall(SYS_clone3, nullptr, 0); }},
    {"setns", [] { return syscall(SYS_setns, kNone, 0); }},
    {"sethostname", [] { return static_cast<long>(sethostname("witness", 7)); }},
    {"setdomainname", [] { return static_cast<long>(setdomainname("witness", 7)); }},
    {"setuid-0", [] { return syscall(SYS_setuid, 0); }},
    {"setuid-1000", [] { return syscall(SYS_setuid, 1000); }},
    {"setgid-0", [] { return syscall(SYS_setgid, 0); }},
    {"setgroups", [] { return syscall(SYS_setgroups, 0, nullptr); }},
    {"kill-init", [] { return syscall(SYS_kill, 1, 0); }},
    {"kill-self", [] { return syscall(SYS_kill, getpid(), SIGTERM); }},
    {"ptrace", [] { return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0); }},
    {"process_vm_readv", [] { return syscall(SYS_process_vm_readv, getpid(), nullptr, 0, nullptr, 0, 0); }},
    {"keyctl", [] { return syscall(SYS_keyctl, 0, -3, 0); }},
    {"add_key", [] { return syscall(SYS_add_key, "user", "witness", "x", 1, -3); }},
    {"socket-unix", [] { return static_cast<long>(socket(AF_UNIX, SOCK_STREAM, 0)); }},
    {"socket-inet", [] { return static_cast<long>(socket(AF_INET, SOCK_STREAM, 0)); }},
    {"socket-raw", [] { return static_cast<long>(socket(AF_INET, SOCK_RAW, 1)); }},
    {"socket-packet", [] { return static_cast<long>(socket(AF_PACKET, SOCK_RAW, 0)); }},
    {"socket-netlink", [] { return static_cast<long>(socket(AF_NETLINK, SOCK_RAW, 0)); }},
    {"socket-alg", [] { return static_cast<long>(socket(AF_ALG, SOCK_SEQPACKET, 0)); }},
    {"socket-vsock", [] { return static_cast<long>(socket(AF_VSOCK, SOCK_STREAM, 0)); }},
    {"personality-0", [] { return syscall(SYS_personality, 0); }},
    {"personality-linux32", [] { return syscall(SYS_personality, 8); }},
    {"personality-other", [] { return syscall(SYS_personality, 0x20); }},
    {"bpf", [] { return syscall(SYS_bpf, 0, nullptr, 0); }},
    {"perf_event_open", [] { return syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0); }},
    {"userfaultfd", [] { return syscall(SYS_userfaultfd, ~0); }},
    {"io_uring_setup", [] { return syscall(SYS_io_uring_setup, 0, nullptr); }},
    {"init_module", [] { return syscall(SYS_init_module, nullptr, 0, ""); }},
    {"swapon", [] { return syscall(SYS_swapon, "/data/file", 0); }},
    {"acct", [] { return syscall(SYS_acct, "/data"); }},
    {"quotactl", [] { return syscall(SYS_quotactl, 0, nullptr, 0, nullptr); }},
    {"open_by_handle_at", [] { return syscall(SYS_open_by_handle_at, kNone, nullptr, 0); }},
    {"fanotify_init", [] { return syscall(SYS_fanotify_init, ~0u, 0); }},
    {"syslog", [] { return syscall(SYS_syslog, 10, nullptr, 0); }},
    {"nice-down", [] { return syscall(SYS_setpriority, PRIO_PROCESS, 0, -5); }},
    {"nice-up", [] { return syscall(SYS_setpriority, PRIO_PROCESS, 0, 5); }},
    {"raise-limit",
     [] {
       struct rlimit limit = {};
       getrlimit(RLIMIT_NOFILE, &limit);
       limit.rlim_max += 1;
       return static_cast<long>(setrlimit(RLIMIT_NOFILE, &limit));
     }},
    {"set-clock", [] { return syscall(SYS_clock_settime, 0, nullptr); }},
    {"set-no-new-privs", [] { return static_cast<long>(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }},
    {"drop-bound", [] { return static_cast<long>(prctl(PR_CAPBSET_DROP, 0, 0, 0, 0)); }},
    {"raise-ambient", [] { return static_cast<long>(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 5, 0, 0)); }},
    {"getrandom", [] { return syscall(SYS_getrandom, nullptr, 0, 0); }},
    {"membarrier", [] { return syscall(SYS_membarrier, 0, 0, 0); }},
    {"none-such", [] { return syscall(0x3fff); }},
    {"negative", [] { return syscall(-1L); }},
#ifdef __x86_64__
    {"iopl", [] { return syscall(SYS_iopl, 3); }},
    {"x32-getpid", [] { return syscall(0x40000000L + SYS_getpid); }},
    {"i386-getpid",
     [] {
       long result = 20;  // getpid of i386
       asm volatile("int $0x80" : "+a"(result)::"memory", "r8", "r9", "r10", "r11");
       if (result < 0 && result > -4096) {
         errno = static_cast<int>(-result);
         return -1L;
       }
       return result;
     }},
#endif
};

void append_ended(String& text, int status) {
  if (WIFSIGNALED(status)) {
    text.append("signal ").append_i64(WTERMSIG(status));
    return;
  }
  if (WEXITSTATUS(status) == 0)
    text.append("ok");
  else
    append_errno(text, WEXITSTATUS(status));
}

}  // namespace

String call(string_view name) {
  String text;
  for (const Call& entry : kCalls) {
    if (name != string_view(entry.name)) continue;
    pid_t child = fork();
    if (child == 0) {
      errno = 0;
      long result = entry.make();
      // every errno that a test meets fits into an exit code
      _exit(result >= 0 ? 0 : errno & 0xff);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
      text.append("fork: ");
      append_errno(text, errno);
      return text;
    }
    append_ended(text, status);
    return text;
  }
  text.append("unknown");
  return text;
}

}  // namespace caisson::witness
