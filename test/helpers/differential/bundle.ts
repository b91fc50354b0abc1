/** The bundle that every case starts from, and how a case changes it. */
import { chownSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Mount {
  destination: string
  type?: string
  source?: string
  options?: string[]
  uidMappings?: object[]
  gidMappings?: object[]
}

/** As the OCI specification has it, with what a case may want to be wrong left open. */
export interface Spec {
  ociVersion: string
  hostname?: string
  domainname?: string
  process: {
    terminal?: boolean
    consoleSize?: { height: number; width: number }
    user: Record<string, unknown>
    args: string[]
    env: string[]
    cwd: string
    capabilities: Record<string, string[]>
    [property: string]: unknown
  }
  root: { path: string; readonly?: boolean }
  mounts: Mount[]
  hooks?: Record<string, object[]>
  annotations?: Record<string, string>
  linux: {
    namespaces: { type: string; path?: string }[]
    cgroupsPath: string
    resources?: Record<string, unknown>
    [property: string]: unknown
  }
  [property: string]: unknown
}

/** A merge patch (RFC 7396: arrays are replaced, null takes away), or a function for what that cannot say. */
export type Change = Record<string, unknown> | ((spec: Spec, place: Place) => void)

/** Where one case runs under one runtime. */
export interface Place {
  runtime: string
  id: string
  /** The case's own directory: bundle, files. Nothing else is in it. */
  directory: string
  bundle: string
  rootfs: string
  /** `--root` of the runtime. */
  state: string
  /** As in the specification: from the root of cgroup v2. */
  cgroup: string
  /** The same as a directory of this host. */
  cgroupDirectory: string
  /** A tmpfs with another below it, at `sub`: of the runtimes' mount namespace, for all cases. */
  tree: string
  /** The same, shared. */
  shared: string
  /** A process in the namespaces where the runtimes run. */
  runner: number
  /** A process in namespaces of its own, which a case may join. */
  holder: number
}

/** What this kernel's root may hand on to a container: containers' usual set. */
export const usualCapabilities = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
]

export const proc: Mount = {
  destination: '/proc',
  type: 'proc',
  source: 'proc',
  options: ['nosuid', 'noexec', 'nodev'],
}

/** The file systems that engines give every container: a new list, which a case may change. */
export const usualMounts = (): Mount[] => [
  proc,
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
  },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
  },
]

export function baseSpec(args: readonly string[], cgroup: string): Spec {
  return {
    ociVersion: '1.0.2', // runc 1.1.5 warns about newer ones
    hostname: 'differential',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: ['/witness', ...args],
      env: ['PATH=/bin:/usr/bin', 'HOME=/root'],
      cwd: '/',
      capabilities: {
        bounding: usualCapabilities,
        effective: usualCapabilities,
        permitted: usualCapabilities,
        inheritable: [],
        ambient: [],
      },
      noNewPrivileges: false,
    },
    root: { path: 'rootfs' },
    mounts: usualMounts(),
    linux: {
      namespaces: ['mount', 'cgroup', 'network', 'uts', 'ipc', 'pid'].map((type) => ({ type })),
      cgroupsPath: cgroup,
    },
  }
}

export function change(spec: Spec, place: Place, ...changes: (Change | undefined)[]): Spec {
  let result: unknown = spec
  for (const one of changes) {
    if (one === undefined) continue
    if (typeof one === 'function') one(result as Spec, place)
    else result = merge(result, one)
  }
  return result as Spec
}

function merge(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(result, key)
    else result[key] = merge(result[key], value)
  }
  return result
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A mount after those of the base. */
export const mount =
  (destination: string, type: string, source: string, options: string[] = []): Change =>
  (spec) => {
    spec.mounts.push({ destination, type, source, options })
  }

/** Several changes as one. */
export const all =
  (...changes: Change[]): Change =>
  (spec, place) => {
    Object.assign(spec, change(spec, place, ...changes))
  }

export interface Programs {
  witness: string
  busybox: string
}

/** A root file system: the witness, a shell, users, and a directory of files that calls and mounts may use. */
export function makeRootfs(rootfs: string, programs: Programs, owner?: number): void {
  const directories = ['bin', 'data', 'dev', 'empty', 'etc', 'proc', 'root', 'sys', 'tmp', 'usr', 'usr/bin']
  for (const name of ['.', ...directories]) {
    mkdirSync(join(rootfs, name), { recursive: true })
    if (owner !== undefined) chownSync(join(rootfs, name), owner, owner)
  }
  linkSync(programs.witness, join(rootfs, 'witness'))
  linkSync(programs.busybox, join(rootfs, 'bin', 'busybox'))
  for (const name of [
    'sh',
    'sleep',
    'cat',
    'echo',
    'id',
    'ls',
    'true',
    'false',
    'env',
    'mkdir',
    'touch',
    'kill',
    'ps',
    'stat',
  ]) {
    symlinkSync('busybox', join(rootfs, 'bin', name))
  }
  writeFileSync(
    join(rootfs, 'etc', 'passwd'),
    'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:User:/home/user:/bin/sh\n',
  )
  writeFileSync(join(rootfs, 'etc', 'group'), 'root:x:0:\nusers:x:1000:\nextra:x:2000:user\n')
  writeFileSync(join(rootfs, 'data', 'file'), 'file\n')
}
