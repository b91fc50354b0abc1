import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import type { ContainerConfig, PodConfig } from '../config.ts'
import type { Containers } from '../containers.ts'
import type { Context } from '../context.ts'
import { newId } from '../ids.ts'
import { firstDifference } from '../joins.ts'
import type { Pods } from '../pods.ts'
import { findCriu } from './criu.ts'
import { podCheckpoint, recordVersion } from './layout.ts'
import { archiveName, checkDirectory, refuseOptions, type PodManifest } from './pod-checkpoint.ts'
import { readJson, refused, unpack } from './restore.ts'

export interface PodRestoreRequest {
  /** Absolute path of the directory that a checkpoint was written to. */
  checkpointPath: string
  /** Of the new pod. */
  config: PodConfig
  /** Of its containers: one for each of the checkpoint, by its name. */
  containerConfigs: readonly ContainerConfig[]
  /** Of the runtime's own: there are none. */
  options: Readonly<Record<string, string>>
}

export interface RestoredPod {
  podId: string
  containers: { name: string; id: string }[]
}

/** @throws CaissonError ERR_INVALID_ARGUMENT, ERR_FAILED_PRECONDITION, and as RunPodSandbox and CreateContainer; nothing is left then */
export async function restorePod(
  context: Context,
  pods: Pods,
  containers: Containers,
  { checkpointPath, config, containerConfigs, options }: PodRestoreRequest,
): Promise<RestoredPod> {
  refuseOptions(options)
  await findCriu(context.criu)
  await checkDirectory(checkpointPath, 'checkpoint_path')
  const manifest = await readManifest(checkpointPath)
  const configs = matched(manifest, containerConfigs)
  const { hostname, network, ipc, pid, sysctls } = config
  const difference = firstDifference(manifest.pod, { hostname, network, ipc, pid, sysctls })
  if (difference !== null) throw refused(`checkpoint ${checkpointPath}`, `is of a pod with another ${difference}`)

  const known = new Set([...pods.all()].map(({ id }) => id))
  const podId = await pods.run(config)
  try {
    const shm = manifest.shm ? await unpackShm(context, podId, checkpointPath) : ''
    try {
      const made: RestoredPod['containers'] = []
      for (const [index, each] of configs.entries()) {
        const { name } = each.config.metadata
        const source = { archive: join(checkpointPath, each.archive), name, shm: index === 0 ? shm : '' }
        made.push({ name, id: await containers.create(podId, each.config, source) })
      }
      return { podId, containers: made }
    } finally {
      if (shm !== '') await rm(shm, { recursive: true, force: true })
    }
  } catch (error) {
    // one that was there before is somebody else's: a repeated request has found it
    if (!known.has(podId)) {
      await pods.remove(podId).catch((err: unknown) => {
        context.logger.error({ pod: podId, err }, 'the pod of a restore that failed cannot be removed')
      })
    }
    throw error
  }
}

async function readManifest(directory: string): Promise<PodManifest> {
  const what = `checkpoint ${directory}`
  const manifest = (await readJson(join(directory, podCheckpoint.manifest), what)) as Partial<
    Record<keyof PodManifest, unknown>
  >
  if (manifest.version !== recordVersion) {
    throw refused(what, `is of version ${JSON.stringify(manifest.version)}, and not of ${recordVersion}`)
  }
  const { containers, pod } = manifest
  const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
  if (!Array.isArray(containers) || containers.length === 0 || typeof pod !== 'object' || pod === null) {
    throw refused(what, 'names no pod or no containers')
  }
  for (const each of containers as unknown[]) {
    const { name, id, archive } = (each ?? {}) as Record<string, unknown>
    // the name of the file follows from the id: a manifest leads nowhere else
    if (!isText(name) || !isText(id) || archive !== archiveName(id))
      throw refused(what, 'names a container that is none')
  }
  return manifest as unknown as PodManifest
}

function matched(
  manifest: PodManifest,
  configs: readonly ContainerConfig[],
): { config: ContainerConfig; archive: string }[] {
  const invalid = (why: string): CaissonError => new CaissonError('ERR_INVALID_ARGUMENT', `container_configs: ${why}`)
  const byName = new Map(configs.map((config) => [config.metadata.name, config]))
  if (byName.size !== configs.length) throw invalid('a name is there twice')
  const found = manifest.containers.map(({ name, archive }) => {
    const config = byName.get(name)
    if (config === undefined)
      throw invalid(`none has the metadata.name ${JSON.stringify(name)} of a container of the checkpoint`)
    return { config, archive }
  })
  if (found.length !== configs.length) throw invalid('there are more than the checkpoint has containers')
  return found
}

/** To the disk of the store: it may be large. */
async function unpackShm({ native, layout }: Context, podId: string, checkpointPath: string): Promise<string> {
  const directory = join(layout.pod(podId), `shm-${newId().slice(0, 12)}`)
  const path = join(checkpointPath, podCheckpoint.shm)
  await mkdir(layout.pod(podId), { recursive: true, mode: 0o700 })
  await unpack(native, path, directory, `checkpoint ${path}`)
  return directory
}
