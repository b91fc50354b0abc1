import type { Seccomp, SeccompRule } from './runtime-spec.ts'

/**
 * What every container may call: no call here reaches beyond the container's own processes, files and sockets without a
 * further check of the kernel's. Absent on purpose, whatever the capabilities: io_uring (a second door to the system calls
 * that no filter sees), keyctl and its kin (keyrings are not namespaced), userfaultfd (widens race windows of kernel
 * bugs), vmsplice and io_pgetevents (rarely called, and not in the profile of containers-common, than which this one is to
 * be no wider), kexec, swap, nfsservctl, and socketcall, behind which the address family cannot be seen (C libraries for
 * x86 have called socket itself since Linux 4.3).
 */
const always = `
  _llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 arm_sync_file_range bind
  breakpoint brk cacheflush cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64
  clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close
  close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait
  epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
  fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
  fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
  ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list
  get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
  getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
  getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
  getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
  io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
  landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr listxattrat
  llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
  mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify
  mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
  msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2
  pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
  pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64
  ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64
  recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq
  rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
  rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
  sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
  sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
  semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
  set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
  setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit
  setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd
  signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync
  sync_file_range sync_file_range2 syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
  timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
  timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat
  utime utimensat utimensat_time64 utimes vfork wait4 waitid waitpid write writev
`

/** What comes with a capability: calls that the kernel itself refuses without it, at least in part. */
const withCapability: Record<string, string> = {
  CAP_BPF: 'bpf',
  CAP_DAC_READ_SEARCH: 'open_by_handle_at',
  CAP_PERFMON: 'perf_event_open',
  CAP_SYS_ADMIN: `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount mount mount_setattr move_mount
    open_tree open_tree_attr perf_event_open pivot_root quotactl quotactl_fd setdomainname sethostname setns statmount
    syslog umount umount2 unshare`,
  CAP_SYS_BOOT: 'reboot',
  CAP_SYS_CHROOT: 'chroot',
  CAP_SYS_MODULE: 'delete_module finit_module init_module',
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node',
  CAP_SYS_PACCT: 'acct',
  CAP_SYS_PTRACE: 'kcmp pidfd_getfd process_madvise',
  CAP_SYS_RAWIO: 'ioperm iopl',
  CAP_SYS_TIME: 'clock_settime clock_settime64 settimeofday stime',
  CAP_SYS_TTY_CONFIG: 'vhangup',
  CAP_SYSLOG: 'syslog',
}

/**
 * Address families below AF_ALG (38), and AF_SMC and AF_XDP. Not AF_ALG (its kernel code wrote to the page cache of files
 * it could only read: CVE-2026-31431) and not AF_VSOCK (40: reaches the hypervisor past every network namespace). An
 * allow-list, since the comparison has 64 bits and the kernel uses 32: `family != 40` would let 2^32 + 40 pass.
 */
const firstDeniedFamily = 38
const laterFamilies = [43, 44]

const netlink = 16
/** NETLINK_AUDIT: the host's audit, of no use without CAP_AUDIT_WRITE. Protocols of netlink end with NETLINK_SMC, 22. */
const audit = 9
const lastNetlink = 22

const range = (first: number, end: number): number[] => Array.from({ length: end - first }, (_, n) => first + n)

/** socket(2): allow-lists only, of which no comparison can be passed by bits that the kernel does not look at. */
function socketRules(capabilities: readonly string[]): SeccompRule[] {
  const family = (value: number, op = 'SCMP_CMP_EQ'): NonNullable<SeccompRule['args']>[number] => ({
    index: 0,
    value,
    op,
  })
  const protocol = (value: number, op = 'SCMP_CMP_EQ'): NonNullable<SeccompRule['args']>[number] => ({
    index: 2,
    value,
    op,
  })
  const later = laterFamilies.map((value) => allow(['socket'], family(value)))
  if (capabilities.includes('CAP_AUDIT_WRITE')) {
    return [allow(['socket'], family(firstDeniedFamily, 'SCMP_CMP_LT')), ...later]
  }
  return [
    allow(['socket'], family(netlink, 'SCMP_CMP_LT')),
    allow(['socket'], family(netlink), protocol(audit, 'SCMP_CMP_LT')),
    ...range(audit + 1, lastNetlink + 1).map((value) => allow(['socket'], family(netlink), protocol(value))),
    ...range(netlink + 1, firstDeniedFamily).map((value) => allow(['socket'], family(value))),
    ...later,
  ]
}

/** personality(2): PER_LINUX, PER_LINUX32, each also with UNAME26, and the query. Others switch off protections such as ASLR. */
const personalities = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff]

/** CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}: a new user namespace opens most of the kernel's attack surface (CVE-2022-0185). */
const cloneNewMask = 0x7e020000
/** unshare(2) takes CLONE_NEWTIME too; in clone(2) that bit belongs to the exit signal. */
const unshareNewMask = cloneNewMask + 0x80

const enosys = 38
const eperm = 1

const allow = (names: string[], ...args: NonNullable<SeccompRule['args']>): SeccompRule => ({
  names,
  action: 'SCMP_ACT_ALLOW',
  ...(args.length === 0 ? {} : { args }),
})

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '')

/**
 * The seccomp profile of type RuntimeDefault: an allow-list whose default is EPERM.
 *
 * @param capabilities the bounding set of the container, as `CAP_...` names
 */
export function runtimeDefaultSeccomp(capabilities: readonly string[]): Seccomp {
  const granted = capabilities.flatMap((capability) => words(withCapability[capability] ?? ''))
  const names = [...new Set([...words(always), ...granted])].sort()
  const admin = capabilities.includes('CAP_SYS_ADMIN')
  const syscalls = [
    allow(names),
    ...socketRules(capabilities),
    ...personalities.map((value) => allow(['personality'], { index: 0, value, op: 'SCMP_CMP_EQ' })),
  ]
  if (!admin) {
    syscalls.push(
      allow(['clone'], { index: 0, value: cloneNewMask, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
      allow(['unshare'], { index: 0, value: unshareNewMask, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
      // its flags lie in memory, out of a filter's sight; on ENOSYS C libraries fall back to clone
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: enosys },
    )
  }
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: eperm,
    // the compiler keeps those that the machine can run
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32', 'SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
    syscalls,
  }
}
