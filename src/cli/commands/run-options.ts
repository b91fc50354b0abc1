import { runtime } from '../../gen/cri.js'
import { podNetwork } from './run-network.ts'
import { parseCount, parseSize, UsageError } from '../args.ts'

const { NamespaceMode } = runtime.v1
const { ProfileType } = runtime.v1.SecurityProfile

/** Kernel files that tell about, or reach, the host: hidden or kept from writing as other container tools do. */
const maskedPaths = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/scsi',
  '/proc/sched_debug',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
]
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

export const runOptions = {
  detach: { type: 'boolean', short: 'd', default: false },
  interactive: { type: 'boolean', short: 'i', default: false },
  tty: { type: 'boolean', short: 't', default: false },
  name: { type: 'string' },
  env: { type: 'string', short: 'e', multiple: true, default: [] as string[] },
  volume: { type: 'string', short: 'v', multiple: true, default: [] as string[] },
  workdir: { type: 'string', short: 'w', default: '' },
  user: { type: 'string', short: 'u', default: '' },
  entrypoint: { type: 'string' },
  hostname: { type: 'string', default: '' },
  network: { type: 'string', multiple: true, default: [] as string[] },
  'network-alias': { type: 'string', multiple: true, default: [] as string[] },
  ip: { type: 'string', multiple: true, default: [] as string[] },
  'mac-address': { type: 'string' },
  publish: { type: 'string', short: 'p', multiple: true, default: [] as string[] },
  dns: { type: 'string', multiple: true, default: [] as string[] },
  memory: { type: 'string', short: 'm' },
  cpus: { type: 'string' },
  'pids-limit': { type: 'string' },
  'cap-add': { type: 'string', multiple: true, default: [] as string[] },
  'cap-drop': { type: 'string', multiple: true, default: [] as string[] },
  'read-only': { type: 'boolean', default: false },
  privileged: { type: 'boolean', default: false },
  pull: { type: 'string', default: 'missing' },
} as const

export interface RunValues {
  detach: boolean
  interactive: boolean
  tty: boolean
  name?: string | undefined
  env: string[]
  volume: string[]
  workdir: string
  user: string
  entrypoint?: string | undefined
  hostname: string
  network: string[]
  'network-alias': string[]
  ip: string[]
  'mac-address'?: string | undefined
  publish: string[]
  dns: string[]
  memory?: string | undefined
  cpus?: string | undefined
  'pids-limit'?: string | undefined
  'cap-add': string[]
  'cap-drop': string[]
  'read-only': boolean
  privileged: boolean
}

export function podConfig(
  values: RunValues,
  identity: { name: string; uid: string; labels: Record<string, string>; logDirectory: string },
): runtime.v1.PodSandboxConfig.$Properties {
  const network = podNetwork(values)
  return {
    metadata: { name: identity.name, namespace: 'default', uid: identity.uid, attempt: 0 },
    hostname: network.host ? '' : values.hostname || identity.name,
    logDirectory: identity.logDirectory,
    labels: identity.labels,
    annotations: network.annotations,
    portMappings: network.ports,
    ...(values.dns.length === 0 ? {} : { dnsConfig: { servers: values.dns } }),
    linux: {
      securityContext: {
        privileged: values.privileged,
        namespaceOptions: {
          network: network.host ? NamespaceMode.NODE : NamespaceMode.POD,
          pid: NamespaceMode.CONTAINER,
          ipc: NamespaceMode.POD,
        },
      },
    },
  }
}

export function containerConfig(
  values: RunValues,
  image: { reference: string; id: string },
  command: readonly string[],
  identity: { name: string; labels: Record<string, string> },
): runtime.v1.ContainerConfig.$Properties {
  return {
    metadata: { name: identity.name, attempt: 0 },
    image: { image: image.id, userSpecifiedImage: image.reference },
    command: values.entrypoint === undefined ? [] : [values.entrypoint],
    args: [...command],
    workingDir: values.workdir,
    envs: values.env.map(environment),
    mounts: values.volume.map(volume),
    labels: identity.labels,
    logPath: 'output.log',
    tty: values.tty,
    stdin: values.interactive,
    // a terminal can be left, and one in the background is anybody's to come to
    stdinOnce: values.interactive && !values.tty && !values.detach,
    linux: {
      resources: resources(values),
      securityContext: {
        ...identityOf(values.user),
        privileged: values.privileged,
        readonlyRootfs: values['read-only'],
        namespaceOptions: { pid: NamespaceMode.CONTAINER },
        capabilities: { addCapabilities: values['cap-add'], dropCapabilities: values['cap-drop'] },
        seccomp: { profileType: values.privileged ? ProfileType.Unconfined : ProfileType.RuntimeDefault },
        maskedPaths,
        readonlyPaths,
      },
    },
  }
}

function environment(text: string): runtime.v1.KeyValue.$Properties {
  const equals = text.indexOf('=')
  if (equals === 0) throw new UsageError(`--env: "${text}" has no name`)
  // a name alone passes the caller's own value on, and nothing when there is none
  const key = equals < 0 ? text : text.slice(0, equals)
  return { key, value: Buffer.from(equals < 0 ? (process.env[key] ?? '') : text.slice(equals + 1)) }
}

function volume(text: string): runtime.v1.Mount.$Properties {
  const [hostPath, containerPath, mode, ...rest] = text.split(':')
  const known = mode === undefined || mode === 'ro' || mode === 'rw'
  if (!hostPath?.startsWith('/') || !containerPath?.startsWith('/') || !known || rest.length > 0) {
    throw new UsageError(`--volume: "${text}" is not /HOST/PATH:/CONTAINER/PATH[:ro]`)
  }
  return { hostPath, containerPath, readonly: mode === 'ro' }
}

function identityOf(user: string): runtime.v1.LinuxContainerSecurityContext.$Properties {
  const [name = '', group] = user.split(':')
  if (group !== undefined && !/^\d+$/.test(group)) throw new UsageError(`--user: group "${group}" is not a number`)
  const gid = group === undefined ? {} : { runAsGroup: { value: Number(group) } }
  if (name === '') return gid
  return /^\d+$/.test(name) ? { runAsUser: { value: Number(name) }, ...gid } : { runAsUsername: name, ...gid }
}

function resources(values: RunValues): runtime.v1.LinuxContainerResources.$Properties {
  const period = 100_000 // microseconds: the kernel's default
  const limits: runtime.v1.LinuxContainerResources.$Properties = {}
  if (values.memory !== undefined) limits.memoryLimitInBytes = parseSize(values.memory, '--memory')
  if (values.cpus !== undefined) {
    const cpus = Number(values.cpus)
    if (!(cpus > 0)) throw new UsageError(`--cpus: "${values.cpus}" is not a positive number`)
    limits.cpuPeriod = period
    limits.cpuQuota = Math.round(cpus * period)
  }
  if (values['pids-limit'] !== undefined) {
    limits.unified = { 'pids.max': String(parseCount(values['pids-limit'], '--pids-limit')) }
  }
  return limits
}
