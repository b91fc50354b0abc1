import { readFile } from 'node:fs/promises'

import type { ContainerConfig, Resources } from './config.ts'
import { Container, exitOf, type ContainerExit } from './container.ts'
import type { Context } from './context.ts'
import type { HeldImage } from './image-volumes.ts'
import type { Layout } from './layout.ts'
import type { Pod } from './pod.ts'
import { ifPresent } from '../files.ts'
import { readRecord, writeRecord } from '../records.ts'

/** What is durable of a container: its request and identity. Its end is in `exit`, which the monitor writes. */
export async function writeContainerRecord(
  context: Context,
  container: Container,
  { resources, process }: Pick<Container, 'resources' | 'process'> = container,
): Promise<void> {
  const { id, pod, config, createdAt, imageId, snapshotter, layers, imageVolumes, user, stopSignal } = container
  const { seccomp, restored } = container
  await writeRecord(context.layout.containerRecord(pod.id, id), {
    id,
    createdAt,
    imageId,
    snapshotter,
    layers,
    ...(imageVolumes.length > 0 && { imageVolumes }),
    user,
    stopSignal,
    resources,
    process,
    seccomp,
    ...(restored && { restored }),
    config,
    // only an end that the monitor does not know: a failed start, or a monitor that died
    ...(container.exit === null || container.exit.reason === 'Completed' || container.exit.reason === 'Error'
      ? {}
      : { end: container.exit }),
  })
}

/** @returns null when there is no record: the creation never ended */
export async function readContainerRecord(
  layout: Layout,
  pod: Pod,
  id: string,
): Promise<{ container: Container; end: ContainerExit | null } | null> {
  const record = await readRecord(layout.containerRecord(pod.id, id))
  if (record === null) return null
  const fields = record as unknown as {
    createdAt: string
    imageId: string
    snapshotter?: Container['snapshotter']
    layers?: string[]
    imageVolumes?: HeldImage[]
    user: Container['user']
    stopSignal: number
    resources?: Resources
    process: object
    seccomp: object | null
    restored?: boolean
    config: ContainerConfig
    end?: Omit<ContainerExit, 'startedAt' | 'finishedAt'> & { startedAt: string; finishedAt: string }
  }
  const container = new Container({
    id,
    pod,
    config: fields.config,
    createdAt: BigInt(fields.createdAt),
    imageId: fields.imageId,
    snapshotter: fields.snapshotter ?? 'overlay', // all that there was, before the records told
    layers: fields.layers ?? [], // a record of before it listed them: the lease does
    imageVolumes: fields.imageVolumes ?? [],
    user: fields.user,
    stopSignal: fields.stopSignal,
    ...(fields.resources !== undefined && { resources: fields.resources }),
    process: fields.process,
    seccomp: fields.seccomp,
    restored: fields.restored ?? false,
    pid: 0,
  })
  const { end } = fields
  return {
    container,
    end: end === undefined ? null : { ...end, startedAt: BigInt(end.startedAt), finishedAt: BigInt(end.finishedAt) },
  }
}

/** The exit record that a monitor wrote: one line, the rest of the preallocated file is zeros. */
export async function readExitRecord(layout: Layout, podId: string, id: string): Promise<ContainerExit | null> {
  const text = await ifPresent(readFile(layout.exitRecord(podId, id), 'latin1'))
  if (text === null) return null
  const end = text.indexOf('\n')
  if (end <= 0) return null // nothing written: it had not exited
  const record = JSON.parse(text.slice(0, end)) as {
    exitCode: number
    signal: number
    oomKilled: boolean
    startedAt: string
    finishedAt: string
  }
  return exitOf({
    exitCode: record.exitCode,
    signal: record.signal,
    oomKilled: record.oomKilled,
    startedAt: BigInt(record.startedAt),
    finishedAt: BigInt(record.finishedAt),
  })
}
