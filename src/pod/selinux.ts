import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

import { CaissonError } from '../errors.ts'
import { ifPresent, isPresent } from '../files.ts'
import type { ContainerConfig, PodConfig, SelinuxOptions } from './config.ts'

/** user:role:type:level, security_context of SELinux. */
interface SecurityContext {
  user: string
  role: string
  type: string
  level: string
}

/** The contexts that the host's policy has for containers. */
export interface Selinux {
  readonly process: SecurityContext
  readonly file: SecurityContext
}

export interface SelinuxLabels {
  /** Of processes, process.selinuxLabel of a specification; empty: none. */
  process: string
  /** Of what is mounted, linux.mountLabel of a specification. */
  mount: string
}

const categories = 1024
const fallback = {
  process: 'system_u:system_r:container_t:s0',
  file: 'system_u:object_r:container_file_t:s0',
}

/** Null: the host has no SELinux. The contexts are those of lxc_contexts(5) of its policy. */
export async function readSelinux(): Promise<Selinux | null> {
  if (!(await isPresent('/sys/fs/selinux/enforce'))) return null
  const config = (await ifPresent(readFile('/etc/selinux/config', 'utf8'))) ?? ''
  const policy = /^\s*SELINUXTYPE\s*=\s*([A-Za-z0-9_-]+)\s*$/m.exec(config)?.[1] ?? 'targeted'
  const contexts = (await ifPresent(readFile(`/etc/selinux/${policy}/contexts/lxc_contexts`, 'utf8'))) ?? ''
  return selinuxContexts(contexts)
}

/** @param text of lxc_contexts: `process = "system_u:system_r:container_t:s0"` */
export function selinuxContexts(text: string): Selinux {
  const context = (key: 'process' | 'file'): SecurityContext => {
    const value = new RegExp(`^\\s*${key}\\s*=\\s*"([^"\\s]+)"`, 'm').exec(text)?.[1] ?? fallback[key]
    const [user = '', role = '', type = '', ...level] = value.split(':')
    return { user, role, type, level: level.join(':') || 's0' }
  }
  return { process: context('process'), file: context('file') }
}

/** A level of two categories that no other pod has: pods cannot reach each other's files and processes. */
export function freeLevel(podId: string, taken: ReadonlySet<string>): string {
  const pairs = (categories * (categories - 1)) / 2
  const start = createHash('sha256').update(podId).digest().readUInt32LE(0) % pairs
  for (let step = 0; step < pairs; step++) {
    const level = pairLevel((start + step) % pairs)
    if (!taken.has(level)) return level
  }
  throw new CaissonError('ERR_LIMIT_EXCEEDED', `all ${pairs} pairs of SELinux categories are taken`)
}

/** The n-th pair c<low>,c<high> with low < high. */
function pairLevel(n: number): string {
  const high = Math.floor((1 + Math.sqrt(1 + 8 * n)) / 2)
  return `s0:c${n - (high * (high - 1)) / 2},c${high}`
}

/** @throws CaissonError ERR_INVALID_ARGUMENT: a part that no context can hold, whether the host has SELinux or not */
export function checkSelinux(options: SelinuxOptions | null | undefined): void {
  if (options == null) return
  for (const part of ['user', 'role', 'type'] as const) {
    if (!/^[A-Za-z0-9_.-]*$/.test(options[part])) throw invalid(part, options[part])
  }
  // s0, s0:c1, s0:c1,c2, s0:c1.c5, and ranges of two of them
  if (options.level !== '' && !/^s\d+(:c\d+([.,]c\d+)*)?(-s\d+(:c\d+([.,]c\d+)*)?)?$/.test(options.level)) {
    throw invalid('level', options.level)
  }
}

function invalid(part: string, value: string): CaissonError {
  return new CaissonError(
    'ERR_INVALID_ARGUMENT',
    `selinux_options.${part} ${JSON.stringify(value)} is not one of SELinux`,
  )
}

/**
 * The labels of a pod's own: its init, where it has one, and its /dev/shm. Containers whose options say nothing else are of
 * its level, and so can use them.
 * @param podLevel where the pod's options have none
 */
export function podLabels(host: Selinux, pod: PodConfig, podLevel: string): SelinuxLabels {
  const options = pod.selinux ?? null
  return labels(host, options, levelOf(pod, podLevel), pod.privileged)
}

/**
 * The labels of a container: its own options, else the pod's, over the policy's; the level, where it is given none, is the pod's.
 * A privileged process, or one that shares the host's processes or IPC and was given no options, has no label: what it becomes is
 * for the policy to say, by a transition from the service's domain (to spc_t in most).
 */
export function selinuxLabels(host: Selinux, pod: PodConfig, podLevel: string, config: ContainerConfig): SelinuxLabels {
  const options = config.selinux ?? pod.selinux ?? null
  const free = config.privileged || (options === null && (config.pid === 'node' || pod.ipc === 'node'))
  return labels(host, options, levelOf(pod, podLevel), free)
}

function levelOf(pod: PodConfig, podLevel: string): string {
  return pod.selinux?.level || podLevel
}

function labels(host: Selinux, options: SelinuxOptions | null, podLevel: string, free: boolean): SelinuxLabels {
  const level = options?.level || podLevel
  const user = options?.user ?? ''
  const process = {
    user: user || host.process.user,
    role: options?.role || host.process.role,
    type: options?.type || host.process.type,
    level,
  }
  const mount = { ...host.file, user: user || host.file.user, level }
  return { process: free ? '' : text(process), mount: text(mount) }
}

function text({ user, role, type, level }: SecurityContext): string {
  return [user, role, type, level].join(':')
}
