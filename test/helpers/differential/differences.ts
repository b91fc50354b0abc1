/** What differs between any two of the runtimes whatever the configuration, with the reason. */
import type { Difference } from './compare.ts'

export const alwaysDifferent: readonly Difference[] = [
  {
    at: /: exit$/,
    follow: 'runc',
    why: 'the exit status of a command: engines are written for runc’s (exec 255, an unknown command 3); crun has 1, 64, 253, 255',
  },
  { at: /(^|: )error$/, follow: 'any', why: 'texts of errors are each runtime’s own' },
  {
    at: /^descriptors\.[012]$/,
    follow: { ours: 'socket' },
    why: 'runc’s `run` copies through pipes of its own; a container of the others has what its caller gave',
  },
  {
    at: 'devices.core',
    follow: 'any',
    why: 'crun links /proc/kcore also where the kernel has none, runc only where it has',
  },
  {
    at: 'keyring',
    follow: { ours: /^keyring;\d+;\d+;3f1[3b]0000;_ses\.<id>$/ },
    why: 'its name is runc’s, as in /proc/keys of a host with engines; its rights are crun’s, which lets nobody search it',
  },
  {
    at: 'mounts./sys',
    follow: { ours: /^sysfs .* \| rw \| sysfs \| \/$/ },
    why: 'runc makes the superblock of sysfs read-only, too, which all containers of a network namespace share',
  },
]
