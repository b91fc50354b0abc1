/** Name of the profile below. */
export const defaultApparmorProfile = 'caisson-default'

/**
 * The AppArmor profile of type RuntimeDefault, apparmor.d(5): files, networks and capabilities are left to the container's other
 * bounds; what it takes away is what of /proc and /sys acts on the whole host, mounting, and tracing or signalling anything beyond
 * the profile. It includes no file, so that it needs nothing of the host's /etc/apparmor.d.
 *
 * Rules that deny win over those that allow. Of /proc a process may write what is its own (`/proc/<pid>`), and of /proc/sys the
 * memory of System V (kernel.shm*), which belongs to the IPC namespace.
 */
export const defaultApparmorPolicy = `
profile ${defaultApparmorProfile} flags=(attach_disconnected, mediate_deleted) {
  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (send, receive) peer=${defaultApparmorProfile},
  ptrace (trace, read, tracedby, readby) peer=${defaultApparmorProfile},

  deny mount,

  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sy[^s]*/** w,
  deny /proc/sys[^/]*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/{[^s]**,s[^h]**,sh[^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/{mem,kmem,kcore} rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/{,**} rwklx,
  deny /sys/devices/virtual/powercap/{,**} rwklx,
  deny /sys/kernel/security/{,**} rwklx,
}
`
