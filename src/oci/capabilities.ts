import { CaissonError } from '../errors.ts'
import type { CapabilitySets } from './runtime-spec.ts'

/** Every capability by number: capabilities(7), up to CAP_CHECKPOINT_RESTORE of Linux 5.9. */
export const allCapabilities = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
] as const

/** What an unprivileged container gets: the set that images have been written against since Docker chose it. */
const defaultCapabilities = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
]

/** The names in a kernel bit mask, such as CapBnd of proc_pid_status(5). */
export function capabilitiesOfMask(mask: bigint): string[] {
  return allCapabilities.filter((_name, bit) => ((mask >> BigInt(bit)) & 1n) === 1n)
}

/**
 * The five sets of a container's first process. Nothing is inheritable unless asked for: a non-empty inheritable set let
 * programs with file capabilities gain them (CVE-2022-29162).
 *
 * @param held what this service holds: more cannot be given; "ALL" means all of it
 */
export function capabilitySets(
  request: { add: readonly string[]; drop: readonly string[]; ambient: readonly string[]; privileged: boolean },
  held: readonly string[],
): CapabilitySets {
  const granted = new Set<string>(request.privileged ? held : defaultCapabilities.filter((name) => held.includes(name)))
  const add = request.add.map(normalise)
  const drop = request.drop.map(normalise)
  if (add.includes('ALL')) for (const name of held) granted.add(name)
  if (drop.includes('ALL')) granted.clear()
  for (const name of drop) granted.delete(name)
  for (const name of add) if (name !== 'ALL') granted.add(hold(name, held))
  const ambient = new Set(
    request.ambient.map(normalise).flatMap((name) => (name === 'ALL' ? held : [hold(name, held)])),
  )
  for (const name of ambient) granted.add(name)
  const names = allCapabilities.filter((name) => granted.has(name))
  const raised = allCapabilities.filter((name) => ambient.has(name))
  return { bounding: names, effective: names, permitted: names, inheritable: raised, ambient: raised }
}

function normalise(text: string): string {
  const upper = text.toUpperCase()
  if (upper === 'ALL') return upper
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (!(allCapabilities as readonly string[]).includes(name)) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `unknown capability "${text}"`)
  }
  return name
}

function hold(name: string, held: readonly string[]): string {
  if (held.includes(name)) return name
  throw new CaissonError('ERR_INVALID_ARGUMENT', `capability ${name} cannot be given: this service does not hold it`)
}
