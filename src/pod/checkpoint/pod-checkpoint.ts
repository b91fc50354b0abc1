import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { withDirectory } from '../../files.ts'
import type { PodConfig } from '../config.ts'
import type { Container } from '../container.ts'
import type { Context } from '../context.ts'
import { findByPrefix } from '../ids.ts'
import { resolveStrictly } from '../log-directory.ts'
import type { Pod } from '../pod.ts'
import { packDirectory, writeJson } from './dump.ts'
import { podCheckpoint, recordVersion } from './layout.ts'

export interface PodCheckpointRequest {
  podId: string
  /** Absolute path of an empty directory. */
  outputPath: string
  /** Empty: every container of the pod that runs. */
  containerIds: readonly string[]
  /** Of the runtime's own: there are none. */
  options: Readonly<Record<string, string>>
}

/** `manifest.json`. */
export interface PodManifest {
  version: number
  podId: string
  createdAt: string
  /** What the new pod has to agree with. */
  pod: Pick<PodConfig, 'hostname' | 'network' | 'ipc' | 'pid' | 'sysctls'>
  containers: { name: string; id: string; archive: string }[]
  /** Whether the pod's /dev/shm is there, too. */
  shm: boolean
}

/** A checkpoint of a pod on its way to disk. */
export class PodCheckpoint {
  readonly containers: readonly Container[]
  readonly #context: Context
  readonly #pod: Pod
  readonly #directory: string
  readonly #archives: readonly string[]

  private constructor(context: Context, pod: Pod, containers: readonly Container[], directory: string) {
    this.#context = context
    this.#pod = pod
    this.#directory = directory
    this.containers = containers
    this.#archives = containers.map(({ id }) => archiveName(id))
  }

  /** @throws CaissonError ERR_INVALID_ARGUMENT, ERR_SANDBOX_STATE, ERR_CONTAINER_NOT_FOUND, ERR_CONTAINER_STATE */
  static async prepare(
    context: Context,
    pod: Pod,
    { outputPath, containerIds, options }: PodCheckpointRequest,
  ): Promise<PodCheckpoint> {
    refuseOptions(options)
    if (pod.state !== 'ready') throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} is not ready`)
    const containers = chosen(pod, containerIds)
    await checkOutput(outputPath)
    return new PodCheckpoint(context, pod, containers, outputPath)
  }

  /** What the containers have in common, while all of them stand still. */
  async writeShared(signal: AbortSignal): Promise<void> {
    const [first] = this.containers
    if (!this.#sharesMemory || first === undefined) return
    await packShm(this.#context, first, join(this.#directory, podCheckpoint.shm), signal)
  }

  /** @param dumps of the containers, in their order */
  async write(dumps: readonly string[], signal: AbortSignal): Promise<void> {
    for (const [index, dump] of dumps.entries()) {
      await packDirectory(this.#context, dump, join(this.#directory, this.#archives[index] ?? ''), { signal })
    }
    const { id: podId, config } = this.#pod
    const { hostname, network, ipc, pid, sysctls } = config
    const manifest: PodManifest = {
      version: recordVersion,
      podId,
      createdAt: new Date().toISOString(),
      pod: { hostname, network, ipc, pid, sysctls },
      containers: this.containers.map(({ id, config: { metadata } }, index) => ({
        name: metadata.name,
        id,
        archive: this.#archives[index] ?? '',
      })),
      shm: this.#sharesMemory,
    }
    // last, and whole: what lacks it is no checkpoint
    const path = join(this.#directory, podCheckpoint.manifest)
    await writeJson(`${path}.partial`, manifest)
    signal.throwIfAborted()
    await rename(`${path}.partial`, path)
  }

  /** Takes away what was written. */
  async discard(): Promise<void> {
    for (const name of [...this.#archives, podCheckpoint.shm, podCheckpoint.manifest]) {
      await rm(join(this.#directory, name), { force: true })
      await rm(join(this.#directory, `${name}.partial`), { force: true })
    }
  }

  get #sharesMemory(): boolean {
    return this.#pod.config.ipc === 'pod'
  }
}

export function refuseOptions(options: Readonly<Record<string, string>>): void {
  const [name] = Object.keys(options)
  if (name === undefined) return
  throw new CaissonError('ERR_INVALID_ARGUMENT', `options: ${JSON.stringify(name)} is unknown; there are none`)
}

/** By id, whatever a name is like as one of a file. */
export function archiveName(containerId: string): string {
  return `container-${createHash('sha256').update(containerId).digest('hex')}.tar`
}

function chosen(pod: Pod, ids: readonly string[]): Container[] {
  const running = [...pod.containers.values()].filter(({ state }) => state === 'running')
  const containers = ids.length === 0 ? running : ids.map((id) => ofPod(pod, id))
  if (containers.length === 0) throw new CaissonError('ERR_CONTAINER_STATE', `pod ${pod.id} has no container that runs`)
  const names = containers.map(({ config }) => config.metadata.name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined)
    throw new CaissonError('ERR_INVALID_ARGUMENT', `container_ids: container ${twice} is there twice`)
  return containers
}

function ofPod(pod: Pod, id: string): Container {
  const container = findByPrefix(pod.containers, id)
  if (container !== undefined) return container
  throw new CaissonError('ERR_CONTAINER_NOT_FOUND', `container_ids: pod ${pod.id} has no container "${id}"`)
}

/** Made by the caller, whose it is: what is written there is all that there is. */
async function checkOutput(path: string): Promise<void> {
  await checkDirectory(path, 'output_path')
  if ((await readdir(path)).length > 0)
    throw new CaissonError('ERR_INVALID_ARGUMENT', `output_path ${path} is not empty`)
}

/** @throws CaissonError ERR_INVALID_ARGUMENT */
export async function checkDirectory(path: string, field: string): Promise<void> {
  const invalid = (why: string, cause?: unknown): CaissonError =>
    new CaissonError('ERR_INVALID_ARGUMENT', `${field} "${path}" ${why}`, cause === undefined ? {} : { cause })
  if (!path.startsWith('/')) throw invalid('is not an absolute path')
  const stats = await lstat(path).catch((cause: unknown) => {
    throw invalid('cannot be looked at', cause)
  })
  if (!stats.isDirectory()) throw invalid('is no directory')
}

/** As a container has it mounted, through no link of its own making. */
async function packShm(context: Context, container: Container, to: string, signal: AbortSignal): Promise<void> {
  const { native } = context
  await withDirectory(native, `/proc/${container.pid}/root`, async ({ fd }) => {
    const shm = await native.openat2(fd, 'dev/shm', constants.O_DIRECTORY, 0, resolveStrictly)
    try {
      await packDirectory(context, shm.fd, to, { signal })
    } finally {
      shm.close()
    }
  })
}
