import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'

import { CaissonError } from '../errors.ts'
import { isPresent } from '../files.ts'
import { capabilitiesOfMask } from '../oci/capabilities.ts'
import type { Native } from '../native/types.ts'
import type { PodConfig } from './config.ts'
import type { CgroupDriver } from './context.ts'

/** What the host offers and allows, read once when the runtime opens. */
export interface HostFacts {
  hostname: string
  /** Release, as uname(2) gives it. */
  kernel: string
  /** As image platforms name it: `amd64`, `arm64`. */
  architecture: string
  /** Newer kernel calls: name → detected. */
  features: Readonly<Record<string, boolean>>
  bootId: string
  /** Capabilities that the service holds: what it can give. */
  capabilities: readonly string[]
  /**
   * oom_score_adj(5) of this process: without CAP_SYS_RESOURCE nothing that it starts can have a lower one. It is the bound that can
   * be known: the kernel keeps the lowest that a process ever had to itself.
   */
  oomScoreAdj: number
  /** Mount point of cgroup v2. */
  cgroupRoot: string
  /** Controllers of the cgroup root. */
  controllers: readonly string[]
  /** cgroup v1 controllers are mounted beside it, and are missing here. */
  hybrid: boolean
  /** Superblock options of the host's cgroup2 mount. */
  cgroupOptions: readonly string[]
}

const minimumKernel = [6, 1] as const
const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }
const superOptions = ['nsdelegate', 'memory_recursiveprot', 'memory_localevents', 'favordynmods']

/** @throws CaissonError ERR_HOST_UNSUPPORTED for another user than root, and for a kernel before 6.1 */
export function requireHost({ uid, kernel }: { uid: number; kernel: string }): void {
  if (uid !== 0) throw new CaissonError('ERR_HOST_UNSUPPORTED', `Caisson must run as root (this is uid ${uid})`)
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10))
  if (major > minimumKernel[0] || (major === minimumKernel[0] && minor >= minimumKernel[1])) return
  throw new CaissonError(
    'ERR_HOST_UNSUPPORTED',
    `kernel ${kernel} is too old: Caisson needs Linux ${minimumKernel.join('.')} or later`,
  )
}

/**
 * @param pods parent of containers whose pod names none; empty: the driver's default
 * @throws CaissonError ERR_HOST_UNSUPPORTED: there is no systemd; ERR_CONFIG_INVALID: a parent that the driver cannot have
 */
export async function requireDriver(driver: CgroupDriver, pods: string): Promise<void> {
  if (driver === 'cgroupfs') {
    if (pods === '' || pods.startsWith('/')) return
    throw new CaissonError('ERR_CONFIG_INVALID', `cgroup.pods "${pods}" is a slice, and cgroup.driver is "cgroupfs"`)
  }
  if (!pods.startsWith('/') && (await isPresent('/run/systemd/system'))) return // sd_booted(3)
  if (pods.startsWith('/')) {
    throw new CaissonError(
      'ERR_CONFIG_INVALID',
      `cgroup.pods "${pods}" is a path; with cgroup.driver "systemd" it is a slice`,
    )
  }
  throw new CaissonError('ERR_HOST_UNSUPPORTED', 'cgroup.driver is "systemd", and this host does not run it')
}

/** What the containers of a pod find their host to be called. */
export function podHostname({ hostname }: Pick<PodConfig, 'hostname'>, host: HostFacts): string {
  return hostname || host.hostname
}

/** @throws CaissonError ERR_HOST_UNSUPPORTED naming what the host lacks */
export async function readHost(native: Native): Promise<HostFacts> {
  const { kernel, features } = await native.hostFeatures()
  requireHost({ uid: process.getuid?.() ?? -1, kernel })
  await assertHostMountNamespace()
  const { path, controllers, hybrid } = await native.cgroupRoot()
  const [status, bootId, mounts, oomScoreAdj] = await Promise.all([
    readFile('/proc/self/status', 'utf8'),
    readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
    readFile('/proc/self/mountinfo', 'utf8'),
    readFile('/proc/self/oom_score_adj', 'utf8'),
  ])
  const held = mask(status, 'CapBnd') & mask(status, 'CapPrm')
  const line = mounts.split('\n').find((entry) => entry.split(' ')[4] === path && entry.includes(' - cgroup2 '))
  const options = (line?.split(' ').at(-1) ?? '').split(',')
  return {
    hostname: hostname(),
    kernel,
    architecture: architectures[process.arch] ?? process.arch,
    features,
    bootId: bootId.trim(),
    capabilities: capabilitiesOfMask(held),
    oomScoreAdj: Number(oomScoreAdj),
    cgroupRoot: path,
    controllers,
    hybrid,
    cgroupOptions: options.filter((option) => superOptions.includes(option)),
  }
}

function mask(status: string, name: string): bigint {
  const value = new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1]
  return BigInt(`0x${value ?? '0'}`)
}

/**
 * A service in a mount namespace of its own would keep Bidirectional volumes from the host and hide the host's later mounts
 * from containers (DESIGN section 2). Tests take a private namespace knowingly and say so.
 *
 * Mount ids are unique on a host, and a new namespace gives every mount it copies another one: two processes that see one id in
 * common share their namespace. Comparing /proc/<pid>/ns/mnt needs the right to trace PID 1, which root in a machine's own
 * sandbox may lack.
 */
async function assertHostMountNamespace(): Promise<void> {
  if (process.env['CAISSON_PRIVATE_MOUNT_NAMESPACE'] === '1') return
  const [own, init] = await Promise.all(['self', '1'].map((pid) => readFile(`/proc/${pid}/mountinfo`, 'utf8')))
  const ids = new Set(mountIds(init ?? ''))
  if (!mountIds(own ?? '').some((id) => ids.has(id))) {
    throw new CaissonError(
      'ERR_HOST_UNSUPPORTED',
      'Caisson must run in the host’s mount namespace (PID 1’s): remove PrivateMounts, ProtectSystem and the like from its unit',
    )
  }
}

function mountIds(mountinfo: string): string[] {
  return mountinfo.split('\n').flatMap((line) => /^\d+/.exec(line)?.[0] ?? [])
}
