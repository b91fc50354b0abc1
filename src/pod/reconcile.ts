import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { isCaissonError } from '../errors.ts'
import { ifPresent } from '../files.ts'
import type { PodConfig } from './config.ts'
import { exitOf, lostExit, type Container, type ContainerExit } from './container.ts'
import { readContainerRecord, readExitRecord, writeContainerRecord } from './container-record.ts'
import type { Containers } from './containers.ts'
import type { CgroupDriver, Context } from './context.ts'
import { isId } from './ids.ts'
import { claimImageVolumes } from './image-volumes.ts'
import type { MonitoredContainer } from './monitor/client.ts'
import { reachMonitor } from './monitor/reach.ts'
import { connectMonitor } from './monitor/spawn.ts'
import { Pod } from './pod.ts'
import { podNetwork } from './pod-network.ts'
import { destroyMonitorCgroup } from './pod-birth.ts'
import { writePodRecord, type Pods } from './pods.ts'
import { thawLeftOver } from './pause.ts'
import { readRecord } from '../records.ts'
import { endContainer, endContainers, tearDownPod } from './tear-down.ts'

/**
 * Rebuilds all state from the durable records and the monitors (law 3): same ids, same created_at, no lost exit, nothing left
 * over. What an operation had not finished when the service was killed has no record, and is taken away.
 */
export async function reconcile(context: Context, pods: Pods, containers: Containers): Promise<void> {
  const { layout, logger } = context
  const sameBoot = await markBoot(context)
  await mkdir(layout.pods, { recursive: true, mode: 0o700 })
  await mkdir(layout.podStates, { recursive: true, mode: 0o700 })
  await mkdir(layout.trash, { recursive: true, mode: 0o700 })
  for (const name of await readdir(layout.trash)) {
    // the image store has its own in the same directory, and may be at work on it
    if (/^(pod|container)-/.test(name)) await rm(join(layout.trash, name), { recursive: true, force: true })
  }

  const recorded = new Map<string, PodRecord>()
  for (const id of (await readdir(layout.pods)).filter(isId)) {
    const record = await readable(context, () => readRecord(layout.podRecord(id)))
    if (record === null) continue
    recorded.set(id, record as unknown as PodRecord)
  }
  // together: the time that monitors without an answer are given is waited for once
  const adoptions = [...recorded].map(([id, record]) => adoptPod(context, pods, containers, id, record, sameBoot))
  for (const adoption of await Promise.allSettled(adoptions)) {
    if (adoption.status === 'rejected') throw adoption.reason
  }
  const unfinished: string[] = []
  for (const id of new Set([...(await readdir(layout.pods)), ...(await readdir(layout.podStates))])) {
    if (!isId(id) || recorded.has(id)) continue
    if (sameBoot && (await adoptSpare(context, pods, id))) continue
    unfinished.push(id)
  }
  await Promise.all(
    unfinished.map((id) => {
      logger.warn({ pod: id }, 'taking away a pod whose creation did not end')
      return discardPod(context, id)
    }),
  )
  await context.images.snapshotters.reconcile(new Set([...containers.all()].map(({ id }) => id)))
  const living = [...pods.all()].flatMap(({ id, monitor }) =>
    monitor === null ? [] : [[id, podNetwork(monitor)] as const],
  )
  await context.networks.reconcile(new Map(living))
  for (const pod of pods.all()) pod.attachment = context.networks.get(pod.id) ?? null // those that have died have lost it
  // what is told of an end before its pod is stopped may have been lost with the service that was to tell it
  const wereReady = [...pods.all()].filter(({ id }) => recorded.get(id)?.state === 'ready')
  context.events.open(wereReady.flatMap(endedIn))
}

/** A pod's containers that have ended, the first of them first, and the pod if it has. */
function endedIn(pod: Pod): (Pod | Container)[] {
  const ended = [...pod.containers.values()].filter(({ exit }) => exit !== null)
  const at = ({ exit }: Container): bigint => exit?.finishedAt ?? 0n
  ended.sort((a, b) => Number(at(a) - at(b)))
  return pod.state === 'ready' ? ended : [...ended, pod]
}

/** A monitor that was not told yet what its pod is was a spare, or its pod's creation did not get far: either way it is one now. */
async function adoptSpare(context: Context, pods: Pods, id: string): Promise<boolean> {
  const client = await connectMonitor(context.native, context.layout.podState(id))
  if (client === undefined) return false
  try {
    const hello = await client.hello(context.lease)
    const fresh = hello.buildId === context.buildId && (await client.list()).state === 'empty'
    if (fresh && (await pods.spares.adopt(id, client))) return true
  } catch (error) {
    context.logger.warn({ pod: id, err: error }, 'a left-over monitor does not answer')
  }
  client.close()
  return false
}

interface PodRecord {
  state: Pod['state']
  resources?: Pod['resources']
  createdAt: string
  config: PodConfig
  selinuxLevel?: string
  cgroupDriver?: CgroupDriver
}

/** @returns whether the state directory is of this boot; afterwards it is */
async function markBoot({ layout, host }: Context): Promise<boolean> {
  const previous = await ifPresent(readFile(layout.bootId, 'utf8'))
  if (previous === host.bootId) return true
  await writeFile(layout.bootId, host.bootId, { mode: 0o600 })
  return false
}

async function adoptPod(
  context: Context,
  pods: Pods,
  containers: Containers,
  id: string,
  record: PodRecord,
  sameBoot: boolean,
): Promise<void> {
  const { layout, logger } = context
  let monitor = sameBoot && record.state === 'ready' ? await reachMonitor(context, id) : undefined
  const pod = new Pod({
    id,
    config: record.config,
    createdAt: BigInt(record.createdAt),
    state: 'ready',
    monitor: monitor ?? null,
    selinuxLevel: record.selinuxLevel ?? '',
    cgroupDriver: record.cgroupDriver ?? 'cgroupfs', // all that there was, before the records told
  })
  pod.resources = record.resources ?? {}
  pod.attachment = context.networks.get(id) ?? null
  const ends = new Map<string, ContainerExit | null>()
  const unfinished = new Set<string>()
  for (const containerId of await readdir(join(layout.pod(id), 'containers'))) {
    if (!isId(containerId)) continue
    const found = await readable(context, () => readContainerRecord(layout, pod, containerId))
    if (found === null) {
      unfinished.add(containerId)
      continue
    }
    const { imageId, layers } = found.container
    await context.images.acquireLease(imageId, containerId, layers)
    await claimImageVolumes(context, containerId, found.container.imageVolumes)
    containers.adopt(found.container)
    ends.set(containerId, found.end)
  }
  const live = new Map<string, MonitoredContainer>()
  if (monitor !== undefined) {
    // every container is known and listened to before the list is made, so that no exit falls between the two
    pods.adopt(pod)
    try {
      for (const container of (await monitor.list()).containers) live.set(container.id, container)
    } catch (error) {
      logger.warn({ pod: id, err: error }, 'the monitor of the pod ends while it is adopted')
      await pods.stop(id)
      monitor = undefined
    }
  }
  for (const [containerId, end] of ends) {
    const container = pod.containers.get(containerId)
    if (container !== undefined) await restore(context, container, end, live.get(containerId))
    live.delete(containerId)
  }
  for (const orphan of new Set([...unfinished, ...live.keys()])) await discardContainer(context, pod, orphan)
  if (monitor !== undefined) {
    logger.info({ pod: id, containers: pod.containers.size }, 'adopted a running pod')
    return
  }
  if (pod.tornDown) return
  pods.adopt(pod)
  pod.state = 'notready'
  pod.attachment = null // taken away with those of all pods that are gone
  if (record.state === 'notready') {
    pod.tornDown = true
    return
  }
  logger.warn(
    { pod: id },
    sameBoot ? 'the monitor of the pod is gone; ending the pod' : 'the host has restarted; the pod has ended',
  )
  await endContainers(context, pod)
  await tearDownPod(context, pod)
  await writePodRecord(context, pod)
  pod.tornDown = true
}

/** A record that a power failure has cut off is as good as none; one of a newer version must not be thrown away. */
async function readable<T>({ logger }: Context, read: () => Promise<T | null>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (!isCaissonError(error) || error.fields['damaged'] !== true) throw error
    logger.error({ err: error }, 'a damaged record; what it stood for is taken away')
    return null
  }
}

async function restore(
  context: Context,
  container: Container,
  end: ContainerExit | null,
  live: MonitoredContainer | undefined,
): Promise<void> {
  if (container.state === 'exited') return // told since the list was made
  if (live !== undefined && live.state !== 'exited') {
    container.pid = live.pid
    if (live.state === 'running') container.markRunning(live.startedAt)
    await thawLeftOver(context, container)
    return
  }
  const written = await readExitRecord(context.layout, container.pod.id, container.id)
  const exit = end ?? written ?? (live === undefined ? null : exitOf(live))
  if (exit !== null) {
    container.markExited(exit)
    return
  }
  container.markExited(lostExit('its end was not seen: the monitor or the host has ended'))
  await writeContainerRecord(context, container)
}

/** A container without a record: nobody was told of it. */
async function discardContainer(context: Context, pod: Pod, id: string): Promise<void> {
  await endContainer(context, pod, id)
  const directory = context.layout.container(pod.id, id)
  await context.images.snapshotters.discard({ id, directory })
  await rm(directory, { recursive: true, force: true })
}

async function discardPod(context: Context, id: string): Promise<void> {
  const { layout, native } = context
  const client = await connectMonitor(native, layout.podState(id))
  if (client !== undefined) {
    // while there is a namespace: without one, plugins of CNI leave rules behind (containernetworking/plugins, bridge with ipMasq)
    await context.networks.detach(id, podNetwork(client)).catch((error: unknown) => {
      context.logger.warn(
        { pod: id, err: error },
        'the network of a pod whose creation did not end is taken away later',
      )
    })
    await client.shutdown().catch((error: unknown) => {
      context.logger.warn({ pod: id, err: error }, 'a left-over monitor did not end by itself')
    })
    client.close()
  }
  await destroyMonitorCgroup(context, id)
  await rm(layout.podState(id), { recursive: true, force: true })
  await rm(layout.pod(id), { recursive: true, force: true })
}
