/**
 * The part of the OCI runtime specification (1.3, config.md and config-linux.md) that this runtime writes. The reader is core's
 * compiler: names and units are the specification's.
 */

export interface Spec {
  ociVersion: string
  hostname?: string
  process: Process
  root: { path: string; readonly: boolean }
  mounts: Mount[]
  linux: Linux
  annotations?: Record<string, string>
  hooks?: Hooks
}

/** The moments at which hooks run, in the order of a container's life (config.md "POSIX-platform Hooks"). */
export const hookNames = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const

export type HookName = (typeof hookNames)[number]

export type Hooks = Partial<Record<HookName, Hook[]>>

export interface Hook {
  path: string
  /** The first is the name that the program sees. */
  args?: string[]
  env?: string[]
  /** Seconds. */
  timeout?: number
}

export interface Process {
  terminal: boolean
  user: { uid: number; gid: number; additionalGids?: number[]; umask?: number }
  args: string[]
  env: string[]
  cwd: string
  capabilities: CapabilitySets
  /** 2^64: no limit (spec-json.ts). */
  rlimits?: { type: string; soft: number; hard: number }[]
  ioPriority?: { class: string; priority: number }
  scheduler?: {
    policy: string
    nice: number
    priority: number
    flags: string[]
    runtime: number
    deadline: number
    period: number
  }
  noNewPrivileges: boolean
  oomScoreAdj?: number
  apparmorProfile?: string
  selinuxLabel?: string
}

export interface CapabilitySets {
  bounding: string[]
  effective: string[]
  permitted: string[]
  inheritable: string[]
  ambient: string[]
}

export interface Mount {
  destination: string
  type: string
  source: string
  options: string[]
  /** Of an id-mapped mount; absent with the option `idmap`: the container's user namespace has them. */
  uidMappings?: SpecIdMapping[]
  gidMappings?: SpecIdMapping[]
  /** Not of the specification: the source gets the label of what is mounted, where the host has SELinux. */
  relabel?: boolean
}

export interface Namespace {
  type: 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time'
  /** `caisson:pod`, `caisson:target`, or a file; absent: a new one. */
  path?: string
}

export interface Linux {
  namespaces: Namespace[]
  uidMappings?: SpecIdMapping[]
  gidMappings?: SpecIdMapping[]
  devices: Device[]
  resources: LinuxResources
  seccomp?: Seccomp
  rootfsPropagation?: string
  mountLabel?: string
  maskedPaths: string[]
  readonlyPaths: string[]
  sysctl?: Record<string, string>
  memoryPolicy?: { mode: string; nodes: string; flags: string[] }
}

export interface SpecIdMapping {
  containerID: number
  hostID: number
  size: number
}

export interface Device {
  path: string
  type: 'c' | 'b' | 'p'
  major: number
  minor: number
  fileMode: number
  uid: number
  gid: number
}

export interface DeviceRule {
  allow: boolean
  type?: 'a' | 'c' | 'b'
  major?: number
  minor?: number
  access: string
}

export interface LinuxResources {
  devices: DeviceRule[]
  memory?: { limit?: number; swap?: number; reservation?: number }
  cpu?: { shares?: number; quota?: number; period?: number; cpus?: string; mems?: string }
  pids?: { limit: number }
  hugepageLimits?: { pageSize: string; limit: number }[]
  unified?: Record<string, string>
}

/** linux.seccomp; a profile from the operator passes through as it is read. */
export interface Seccomp {
  defaultAction: string
  defaultErrnoRet?: number
  architectures?: string[]
  flags?: string[]
  syscalls?: SeccompRule[]
}

export interface SeccompRule {
  names: string[]
  action: string
  errnoRet?: number
  args?: { index: number; value: number; valueTwo?: number; op: string }[]
}
