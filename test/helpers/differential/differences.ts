/** What differs between any two of the runtimes whatever the configuration, with the reason. */
import type { Difference } from './compare.ts'

export const alwaysDifferent: readonly Difference[] = [
  { at: /(^|: )error$/, follow: 'any', why: 'texts of errors are each runtime’s own' },
  {
    at: /^descriptors\.[012]$/,
    follow: 'crun',
    why: 'runc’s `run` copies through pipes of its own; a container of the others has what its caller gave',
  },
  {
    at: 'devices.core',
    follow: 'either',
    why: 'crun links /proc/kcore also where the kernel has none, runc only where it has',
  },
  { at: 'keyring', follow: 'either', why: 'the name and the rights of the session keyring are each runtime’s own' },
  {
    at: 'mounts./sys',
    follow: 'either',
    why: 'runc makes the superblock of sysfs read-only, too, which all containers of a network namespace share',
  },
  {
    at: 'mounts./sys/fs/cgroup',
    follow: 'either',
    why: 'the source of a cgroup mount is a name without a meaning: cgroup for runc, cgroup2 for crun',
  },
]
