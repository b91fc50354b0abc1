import { CaissonError } from '../errors.ts'
import { parseDigest, type Digest } from './digest.ts'
import { JsonCursor } from './json.ts'
import { configSizeMax, layerCountMax } from './manifest.ts'
import { formatPlatform, platformRank, type Platform } from './platform.ts'

/** What an image says about its process: image-spec config.md. Absent properties are empty. */
export interface ImageConfig {
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  /** `NAME=value`; what an image lists beside that is left out. */
  readonly env: readonly string[]
  /** `name[:group]`, `uid[:gid]`, or empty for root. */
  readonly user: string
  /** Absolute, or empty. */
  readonly workingDir: string
  /** Absolute paths. */
  readonly volumes: readonly string[]
  /** `SIGTERM`, `15`, or empty. */
  readonly stopSignal: string
  /** Shown to people, never applied to anything (law 7). */
  readonly labels: Readonly<Record<string, string>>
  /** `80/tcp`. */
  readonly exposedPorts: readonly string[]
  /** Digests of the uncompressed layers, base first. */
  readonly diffIds: readonly Digest[]
  readonly platform: Platform
  /** RFC 3339, or empty. */
  readonly created: string
}

/** Items of an argument or environment list; execve(2) would take more, no image needs them. */
const listMax = 4096
/** MAX_ARG_STRLEN of the kernel, 32 pages: a longer string fails in execve(2) with E2BIG. */
const stringMax = 131072 - 1
const pathMax = 4096 - 1
const labelsMax = 8192

/**
 * @param what the image, for messages
 * @throws CaissonError ERR_IMAGE_INVALID naming the property
 */
export function parseImageConfig(data: Buffer, what: string): ImageConfig {
  const root = JsonCursor.parse(data, what, configSizeMax)
  const config = root.get('config')
  const rootfs = root.require('rootfs')
  const type = rootfs.get('type')?.string(64) ?? 'layers'
  if (type !== 'layers') throw rootfs.invalid(`type "${type}" is not "layers"`)

  // Builders have let entries like "FOO" and "=x" through. They stand for nothing: one without "=" must never take its value from
  // the environment of the host (CVE-2026-57231).
  const env = (config?.get('Env')?.strings(listMax, stringMax) ?? []).filter((entry) => entry.indexOf('=') > 0)
  const stopSignal = config?.get('StopSignal')?.string(32) ?? ''
  if (!/^(?:[A-Za-z0-9+-]*)$/.test(stopSignal)) throw root.invalid('StopSignal is not a signal')
  const workingDir = config?.get('WorkingDir')?.string(pathMax) ?? ''

  return {
    entrypoint: config?.get('Entrypoint')?.strings(listMax, stringMax) ?? [],
    cmd: config?.get('Cmd')?.strings(listMax, stringMax) ?? [],
    env,
    user: config?.get('User')?.string(255) ?? '',
    // Docker's builder once wrote relative ones, meant from the root
    workingDir: workingDir === '' || workingDir.startsWith('/') ? workingDir : `/${workingDir}`,
    volumes: config === undefined ? [] : volumes(config),
    stopSignal,
    labels: config?.get('Labels')?.stringMap(labelsMax, 4096, 1 << 20) ?? {},
    exposedPorts: config === undefined ? [] : exposedPorts(config),
    diffIds: rootfs
      .require('diff_ids')
      .items(layerCountMax)
      .map((cursor) => parseDigest(cursor.string(255), cursor.where)),
    platform: {
      os: root.get('os')?.string(64) ?? '',
      architecture: root.get('architecture')?.string(64) ?? '',
      variant: root.get('variant')?.string(64) ?? '',
    },
    created: root.get('created')?.string(64) ?? '',
  }
}

function volumes(config: JsonCursor): string[] {
  return (config.get('Volumes')?.entries(1024) ?? []).map(([path]) => {
    if (path === '' || path.length > pathMax) throw config.invalid('a volume is no path of 1 to 4095 characters')
    const absolute = path.startsWith('/') ? path : `/${path}`
    if (absolute.split('/').includes('..'))
      throw config.invalid(`volume ${JSON.stringify(path.slice(0, 100))} leads upwards`)
    return absolute
  })
}

function exposedPorts(config: JsonCursor): string[] {
  return (config.get('ExposedPorts')?.entries(65536) ?? []).map(([port]) => {
    if (!/^\d{1,5}(?:-\d{1,5})?(?:\/(?:tcp|udp|sctp))?$/.test(port)) {
      throw config.invalid(`ExposedPorts ${JSON.stringify(port.slice(0, 100))} is not port/protocol`)
    }
    return port
  })
}

/** @throws CaissonError ERR_IMAGE_PLATFORM when the machine cannot run it */
export function requirePlatform(config: ImageConfig, machine: Platform, what: string): void {
  if (platformRank(config.platform, machine) !== null) return
  throw new CaissonError(
    'ERR_IMAGE_PLATFORM',
    `${what}: it is made for ${formatPlatform(config.platform)}, this machine is ${formatPlatform(machine)}`,
  )
}

/**
 * USER as CRI reports it: a uid when it is a number, else a name; the group is left out.
 * kubelet's runAsNonRoot check relies on the uid.
 */
export function imageUser(user: string): { uid: number | null; username: string } {
  const name = user.split(':', 1)[0] ?? ''
  if (/^\d{1,10}$/.test(name) && Number(name) <= 0xffff_fffe) return { uid: Number(name), username: '' }
  return { uid: null, username: name }
}
