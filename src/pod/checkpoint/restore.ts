import { constants } from 'node:fs'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { withDirectory } from '../../files.ts'
import { isDigest } from '../../image/digest.ts'
import { defaultUnpackLimits, layerError } from '../../image/unpack.ts'
import type { Native } from '../../native/types.ts'
import type { Spec } from '../../oci/runtime-spec.ts'
import type { ContainerConfig } from '../config.ts'
import type { Container } from '../container.ts'
import type { Context } from '../context.ts'
import { podHostname } from '../host.ts'
import { containerCgroupName, containerCgroupPath } from '../placement.ts'
import type { Pod } from '../pod.ts'
import { checkImages, setHostname } from './criu-images.ts'
import { findCriu } from './criu.ts'
import type { CheckpointRecord } from './dump.ts'
import { archive, recordVersion } from './layout.ts'

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
const recordMax = 1 << 20
const descriptor = /^(|pipe:\[\d+\]|file\[[0-9a-f]+:[0-9a-f]+\])$/
const mountPoint = /^(\/(?!\.{1,2}(\/|$))[^/[\]:\0\n]+)+$/

/** What a container is made of instead of its image alone. */
export interface CheckpointSource {
  /** Path of an archive that a checkpoint has written. */
  archive: string
  /** Name that the container had; null: any. */
  name: string | null
  /** Directory with what the pod's /dev/shm begins with; empty: it stays as it is. */
  shm: string
}

/** A container whose image is the absolute path of an archive is made of that; null: it is not. */
export function archiveOf({ image }: Pick<ContainerConfig, 'image'>): CheckpointSource | null {
  return image.startsWith('/') ? { archive: image, name: null, shm: '' } : null
}

/** Criu's images hold all memory of the processes, and are of no use once these run. */
export async function dropCheckpoint({ layout }: Context, { id, pod }: Container): Promise<void> {
  await rm(join(layout.container(pod.id, id), checkpointDirectory), { recursive: true, force: true })
}

/** A checkpoint that lies unpacked in a container's directory, until the container has started. */
export interface OpenedCheckpoint extends CheckpointSource {
  readonly imageId: string
  readonly record: CheckpointRecord
  readonly criu: string
  /** Holds criu's images. */
  readonly images: string
  readonly changes: string
}

const checkpointDirectory = 'checkpoint'

/**
 * Unpacks an archive below a container's directory. It is data (DESIGN.md, law 7): of what it says no name, label, mount or device of
 * the container is made; what criu would do by its images beyond the container's own configuration is refused.
 *
 * @throws CaissonError ERR_FAILED_PRECONDITION: no criu, no archive, or not one of this version
 */
export async function openCheckpoint(
  context: Context,
  source: CheckpointSource,
  directory: string,
): Promise<OpenedCheckpoint> {
  const { archive: path } = source
  const criu = await findCriu(context.criu)
  const top = join(directory, checkpointDirectory)
  await mkdir(top, { mode: 0o700 })
  const content = join(top, 'archive')
  await unpack(context.native, path, content, `checkpoint ${path}`)
  const record = await readCheckpointRecord(join(content, archive.record), `checkpoint ${path}`)
  if (source.name !== null && record.name !== source.name) {
    throw refused(`checkpoint ${path}`, `is of container ${JSON.stringify(record.name)}, and not of ${source.name}`)
  }
  const images = join(content, archive.images)
  const changes = join(top, 'changes')
  await unpack(context.native, join(content, archive.changes), changes, `checkpoint ${path}: ${archive.changes}`)
  return { ...source, imageId: record.imageId, record, criu, images, changes }
}

export async function unpack(native: Native, path: string, to: string, what: string): Promise<void> {
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((cause: unknown) => {
    throw refused(what, `cannot be opened: ${(cause as Error).message}`, cause)
  })
  try {
    if (!(await file.stat()).isFile()) throw refused(what, 'is no regular file')
    await mkdir(to, { mode: 0o755 })
    await withDirectory(native, to, async ({ fd }) => native.unpackLayer(file.fd, fd, defaultUnpackLimits).done)
  } catch (error) {
    throw layerError(error, what, defaultUnpackLimits)
  } finally {
    await file.close()
  }
}

async function readCheckpointRecord(path: string, what: string): Promise<CheckpointRecord> {
  const record = (await readJson(path, what)) as Partial<CheckpointRecord>
  if (record.version !== recordVersion) {
    throw refused(what, `is of version ${JSON.stringify(record.version)}, and not of ${recordVersion}`)
  }
  const { name, imageId, mounts, descriptors, network } = record
  const isText = (value: unknown): value is string => typeof value === 'string'
  if (!isText(name) || !isText(imageId) || !isDigest(imageId)) throw refused(what, 'names no container or no image')
  if (!Array.isArray(mounts) || !mounts.every((point) => isText(point) && mountPoint.test(point))) {
    throw refused(what, 'names mounts that are none')
  }
  if (
    !Array.isArray(descriptors) ||
    descriptors.length !== 3 ||
    !descriptors.every((each) => isText(each) && descriptor.test(each))
  ) {
    throw refused(what, 'names standard streams that are none')
  }
  if (!isText(network) || !/^(|net\[\d+\])$/.test(network)) throw refused(what, 'names a network that is none')
  return { version: recordVersion, name, imageId, mounts, descriptors, network }
}

/** A regular file of at most 1 MiB with a JSON object. */
export async function readJson(path: string, what: string): Promise<Record<string, unknown>> {
  let text: string
  try {
    const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    try {
      const stats = await file.stat()
      if (!stats.isFile() || stats.size > recordMax) throw new Error(`no regular file of at most ${recordMax} bytes`)
      text = await file.readFile('utf8')
    } finally {
      await file.close()
    }
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object')
    return value as Record<string, unknown>
  } catch (error) {
    throw refused(what, `its record cannot be read: ${(error as Error).message}`, error)
  }
}

export function refused(what: string, why: string, cause?: unknown): CaissonError {
  return new CaissonError('ERR_FAILED_PRECONDITION', `${what} ${why}`, cause === undefined ? {} : { cause })
}

/**
 * What the pod's monitor restores a container with (native/monitor/restore.h). The parts of the container are put where its
 * specification says, by the monitor, and criu is told of nothing else.
 *
 * @throws CaissonError ERR_FAILED_PRECONDITION: the checkpoint has what the specification has not
 */
export async function restoreInput(
  context: Context,
  pod: Pod,
  id: string,
  spec: Spec,
  { record, criu, images, changes, shm }: OpenedCheckpoint,
): Promise<object> {
  const { layout, host, native } = context
  const { seccomp } = spec.linux
  await checkImages(images, `checkpoint of container ${record.name}`, {
    mounts: record.mounts,
    capabilities: new Set(spec.process.capabilities.bounding.map((each) => native.capabilityNames.indexOf(each))),
    filter: seccomp === undefined ? null : native.compileSeccomp(JSON.stringify(seccomp)).filter,
  })
  // what is there is of no use to criu, and the parts cover it in a mount namespace that nobody else sees
  const point = layout.podState(pod.id)
  const { apparmorProfile } = spec.process
  const joined = spec.linux.namespaces.filter(({ path }) => path !== undefined).map(({ type }) => type)
  if (joined.includes('network') !== (record.network !== '')) {
    throw refused(`checkpoint of container ${record.name}`, 'was made with another kind of network')
  }
  await setHostname(images, podHostname(pod.config, host))
  return {
    criu,
    point,
    cgroupRoot: host.cgroupRoot,
    cgroupPath: containerCgroupPath(context, pod, id),
    cgroup: containerCgroupName(pod, id),
    changes,
    shm,
    timeoutMs: context.criu.timeoutMs,
    arguments: [
      '--restore-detached',
      `--images-dir=${images}`,
      `--work-dir=${point}`,
      `--root=${join(point, 'rootfs')}`,
      '--log-file=restore.log',
      '-v2',
      '--pidfile=pid',
      '--manage-cgroups=ignore',
      '--file-locks',
      '--tcp-close', // the peers have not waited, and the address is another
      '--ext-unix-sk',
      ...(apparmorProfile === undefined ? [] : [`--lsm-profile=apparmor:${apparmorProfile}`]),
      ...record.descriptors.flatMap((name, number) => (name === '' ? [] : [`--inherit-fd=fd[${number}]:${name}`])),
      ...(record.network === '' ? [] : ['--inherit-fd=fd[3]:extRootNetNS']),
      ...(['ipc', 'uts'] as const)
        .filter((type) => joined.includes(type))
        .map((type) => `--join-ns=${type}:${join(point, 'ns', type)}`),
      ...record.mounts.flatMap((path) => ['--external', `mnt[${path}]:${sourceOf(path, spec, point, record.name)}`]),
    ],
  }
}

/** Where the monitor has put what the specification mounts at a path. */
function sourceOf(path: string, spec: Spec, point: string, name: string): string {
  if (path === '/sys/fs/cgroup') return join(point, 'm/cgroup')
  const index = spec.mounts.findIndex(({ destination, type }) => destination === path && type === 'bind')
  if (index >= 0) return join(point, 'm', String(index))
  if (spec.linux.maskedPaths.includes(path)) return '/dev/null'
  throw refused(`checkpoint of container ${name}`, `has a mount at ${path}, and the container’s configuration has none`)
}
