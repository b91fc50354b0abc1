import { constants } from 'node:fs'
import { copyFile, mkdir, open, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { ifPresent, withDirectory } from '../../files.ts'
import { taskEnd } from '../../image/native-task.ts'
import { containerMounts } from '../container-mounts.ts'
import { notRunning, type Container } from '../container.ts'
import type { Context } from '../context.ts'
import { openLogDirectory, resolveStrictly } from '../log-directory.ts'
import type { Paused } from '../pause.ts'
import { runDump } from './criu.ts'
import { archive, recordVersion } from './layout.ts'
import { outsideOf, type Outside } from './process-facts.ts'

const nsPerMs = 1_000_000n

/** What a restore has to know of the container as it was: `caisson.json` of an archive. */
export interface CheckpointRecord extends Outside {
  version: number
  /** Name in its pod. */
  name: string
  imageId: string
}

/** @throws CaissonError ERR_CONTAINER_STATE, ERR_FAILED_PRECONDITION: what it shares with others cannot be taken along */
export function checkDumpable(container: Container): void {
  const { pod, config } = container
  if (container.state !== 'running') throw notRunning(container, 'checkpoint')
  const refuse = (why: string): CaissonError =>
    new CaissonError('ERR_FAILED_PRECONDITION', `container ${container.id} cannot be checkpointed: ${why}`)
  if (pod.config.runtimeHandler !== '') throw refuse(`its runtime handler is "${pod.config.runtimeHandler}"`)
  if (pod.config.user !== null) throw refuse('its pod has a user namespace')
  if (config.pid !== 'container') throw refuse(`it has no PID namespace of its own (${config.pid})`)
  if (config.tty) throw refuse('it has a terminal, which criu’s program can hand to nobody')
}

/**
 * Writes what there is of a paused container to a directory: all that an archive holds.
 *
 * @throws CaissonError ERR_CHECKPOINT with what criu says
 */
export async function dumpContainer(
  context: Context,
  container: Container,
  criu: string,
  paused: Paused,
  directory: string,
): Promise<void> {
  const { images, layout, logger } = context
  const { id, pod, pid, config } = container
  const mounts = containerMounts(pod.config, config, { podFiles: '', cgroupOptions: [] })
  const binds = mounts.filter(({ type }) => type === 'bind').map(({ destination }) => destination)
  const outside = await outsideOf(pid, binds, pod.config.network === 'node')
  await mkdir(join(directory, archive.images), { mode: 0o700 })
  await runDump(criu, dumpArguments(pid, paused.cgroup, directory, outside), directory, (dumper) =>
    paused.handTo(dumper, directory),
  )

  const { chain } = await images.resolveLayers(container.imageId)
  const key = { id, directory: layout.container(pod.id, id) }
  await images.snapshotters
    .of(container.snapshotter)
    .changes(key, chain, (changes) =>
      packDirectory(context, changes.directory, join(directory, archive.changes), { layer: true }),
    )
  const record: CheckpointRecord = {
    version: recordVersion,
    name: config.metadata.name,
    imageId: container.imageId,
    ...outside,
  }
  await writeJson(join(directory, archive.record), record)
  await writeJson(join(directory, archive.config), configDump(container))
  await writeJson(join(directory, archive.spec), specDump(container))
  await copyLog(context, container, join(directory, archive.log)).catch((err: unknown) => {
    logger.warn({ container: id, err }, 'a checkpoint is without the container’s log')
  })
}

function dumpArguments(pid: number, cgroup: string, directory: string, outside: Outside): string[] {
  return [
    'dump',
    '--tree',
    String(pid),
    '--images-dir',
    join(directory, archive.images),
    '--work-dir',
    directory,
    '--log-file=dump.log',
    '-v4',
    '--root',
    `/proc/${pid}/root`,
    '--leave-running',
    '--freeze-cgroup',
    cgroup,
    '--manage-cgroups=ignore',
    '--file-locks',
    '--tcp-established',
    '--ext-unix-sk',
    '--link-remap',
    ...outside.mounts.flatMap((point) => ['--external', `mnt[${point}]:${point}`]),
    ...outside.descriptors.filter((name) => name.startsWith('file[')).flatMap((name) => ['--external', name]),
    ...(outside.network === '' ? [] : ['--external', `${outside.network}:extRootNetNS`]),
  ]
}

/** A tar of a directory; it appears whole, or not at all once the signal is aborted. */
export async function packDirectory(
  { native }: Pick<Context, 'native'>,
  directory: string | number,
  path: string,
  { layer = false, signal = new AbortController().signal }: { layer?: boolean; signal?: AbortSignal } = {},
): Promise<void> {
  const draft = `${path}.partial`
  try {
    const target = await open(draft, 'wx', 0o600)
    try {
      const pack = async (fd: number): Promise<unknown> =>
        taskEnd(native.packTree([fd], target.fd, { gzip: false, layer, exclude: [] }), signal)
      await (typeof directory === 'number' ? pack(directory) : withDirectory(native, directory, ({ fd }) => pack(fd)))
      await target.sync()
    } finally {
      await target.close()
    }
    signal.throwIfAborted()
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}

export async function writeJson(path: string, value: object): Promise<void> {
  await writeFile(path, JSON.stringify(value), { mode: 0o600, flag: 'wx' })
}

/** As checkpointctl reads it. */
function configDump(container: Container): object {
  return {
    id: container.id,
    name: container.config.metadata.name,
    rootfsImage: container.config.userSpecifiedImage,
    rootfsImageRef: container.imageId,
    rootfsImageName: container.config.userSpecifiedImage,
    runtime: 'caisson',
    createdTime: new Date(Number(container.createdAt / nsPerMs)).toISOString(),
    checkpointedTime: new Date().toISOString(),
    restoredTime: new Date(0).toISOString(),
    restored: false,
  }
}

function specDump({ pod, config, process, seccomp }: Container): object {
  const { name, namespace, uid } = pod.config.metadata
  return {
    ociVersion: '1.0.2',
    process,
    hostname: pod.config.hostname,
    annotations: {
      'io.kubernetes.cri.container-name': config.metadata.name,
      'io.kubernetes.cri.sandbox-name': name,
      'io.kubernetes.cri.sandbox-namespace': namespace,
      'io.kubernetes.cri.sandbox-uid': uid,
    },
    linux: { ...(seccomp !== null && { seccomp }) },
  }
}

/** Below the pod's log directory, through no link: somebody may have put one there (CVE-2026-53489). */
async function copyLog({ native }: Context, { pod, config }: Container, to: string): Promise<void> {
  const directory = await openLogDirectory(native, pod.config, config)
  if (directory === null) return
  try {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK
    const log = await ifPresent(native.openat2(directory.fd, config.logPath, flags, 0, resolveStrictly))
    if (log === null) return
    try {
      await copyFile(`/proc/self/fd/${log.fd}`, to, constants.COPYFILE_EXCL)
    } finally {
      log.close()
    }
  } finally {
    directory.close()
  }
}

/** @throws CaissonError ERR_INVALID_ARGUMENT: not an absolute path in a directory that exists */
export async function checkTarget(native: Context['native'], path: string, field: string): Promise<void> {
  if (!path.startsWith('/'))
    throw new CaissonError('ERR_INVALID_ARGUMENT', `${field} "${path}" is not an absolute path`)
  try {
    await withDirectory(native, dirname(path), () => Promise.resolve())
  } catch (cause) {
    throw new CaissonError('ERR_INVALID_ARGUMENT', `${field} "${path}": its directory cannot be opened`, { cause })
  }
}
