import { mkdir, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'

import { now } from '../clock.ts'
import { CaissonError } from '../errors.ts'
import { renameIfPresent } from '../files.ts'
import type { PodConfig, PodResources, PodStatus } from './config.ts'
import { exitOf, type Container } from './container.ts'
import { checkPodConfig } from './check-pod-config.ts'
import type { Context } from './context.ts'
import { podHostname } from './host.ts'
import { connectInPod } from './pod-connection.ts'
import { findByPrefix } from './ids.ts'
import { releaseImages } from './image-volumes.ts'
import { addressesOf, joinedNamespace } from './joined-network.ts'
import { alreadyExists, firstDifference, Joins } from './joins.ts'
import { reachMonitor } from './monitor/reach.ts'
import { bearPod, unwind } from './pod-birth.ts'
import { Spares } from './spares.ts'
import { networkRequest, podNetwork } from './pod-network.ts'
import { checkCgroupParent } from './placement.ts'
import { podPlanInput } from './pod-input.ts'
import { writePodFiles } from './pod-files.ts'
import { Pod } from './pod.ts'
import { writeRecord } from '../records.ts'
import { annotate, span } from '../tracing/span.ts'
import { freeLevel, podLabels } from './selinux.ts'
import { detachPod, endContainer, endContainers, tearDownPod } from './tear-down.ts'

/** The pods of one instance: RunPodSandbox and its kin, free of gRPC. */
export class Pods {
  /** How many monitors have died under their pods since this runtime was opened. */
  monitorsLost = 0
  readonly #context: Context
  readonly #pods = new Map<string, Pod>()
  readonly #joins = new Joins<PodConfig>()
  /** SELinux levels of pods that are under way, by id. */
  readonly #levels = new Map<string, string>()
  #closed = false
  /** Sandboxes made in advance. */
  readonly spares: Spares
  /** A pod has a monitor: somebody should listen to it. */
  onMonitor: (pod: Pod) => void = () => undefined
  /** A pod was removed with its containers. */
  onRemoved: (pod: Pod) => void = () => undefined

  /** @param spares how many sandboxes stand ready */
  constructor(context: Context, spares: number) {
    this.#context = context
    this.spares = new Spares(context, spares)
  }

  /** Makes the pod's sandbox and returns its id; an equal request that is repeated gets the same one (law 5). */
  run(config: PodConfig): Promise<string> {
    checkPodConfig(config)
    this.#context.handlers.get(config.runtimeHandler) // before any other answer
    checkCgroupParent(this.#context.cgroup.driver, this.#context.native, config)
    const { name, namespace, uid, attempt } = config.metadata
    const what = `pod ${namespace}/${name} (uid ${uid}, attempt ${attempt})`
    const existing = [...this.#pods.values()].find(({ config: { metadata } }) =>
      sameMetadata(metadata, config.metadata),
    )
    if (existing !== undefined) {
      const field = existing.state === 'ready' ? firstDifference(existing.config, config) : 'state: it has been stopped'
      if (field !== null) return Promise.reject(alreadyExists(what, existing.id, field))
      return Promise.resolve(existing.id)
    }
    return this.#joins.run(JSON.stringify([namespace, name, uid, attempt]), what, config, () => this.#create(config))
  }

  async #create(config: PodConfig): Promise<string> {
    const { native, layout, host, logger, networks, cgroup, handlers, hooks, selinux } = this.#context
    if (config.runtimeHandler !== '') {
      const wanted = { userNamespace: config.user !== null, systemd: cgroup.driver === 'systemd' }
      await handlers.require(config.runtimeHandler, wanted)
    }
    // a network namespace has to belong to the pod's user namespace, and is of use to who has one of its own
    const fits = ['pod', 'none'].includes(config.network) && config.user === null
    const { id, client, undo } =
      (fits ? this.spares.take() : undefined) ?? (await span('monitor.start', {}, () => bearPod(this.#context)))
    const { name, namespace, uid } = config.metadata
    annotate({ 'sandbox.id': id, 'pod.name': name, 'pod.namespace': namespace, 'pod.uid': uid })
    try {
      const selinuxLevel = this.#takeLevel(id)
      const labels = selinux === null ? null : podLabels(selinux, config, selinuxLevel)
      const plan = native.compilePod(JSON.stringify(podPlanInput(id, config, host, networks.sysctls(), labels)))
      for (const warning of plan.warnings) logger.warn({ pod: id }, warning)
      const memfd = native.sealedMemfd('caisson-pod-plan', plan.plan)
      const joined = config.network === 'joined' ? await joinedNamespace(this, native, config.networkOf) : undefined
      await client.setupPod(memfd.fd, joined?.fd).finally(() => {
        memfd.close()
        joined?.close()
      })
      const hostname = podHostname(config, host)
      const request = networkRequest(id, config, hostname)
      const attachment = request === null ? null : await networks.attach(request, podNetwork(client))
      undo.push('network', () => networks.detach(id, podNetwork(client)))
      await writePodFiles(join(layout.podState(id), 'etc'), config, hostname, addressesOf(this, config, attachment))

      const pod = new Pod({
        id,
        config,
        createdAt: now(),
        state: 'ready',
        monitor: client,
        selinuxLevel,
        cgroupDriver: cgroup.driver,
      })
      pod.attachment = attachment
      if (hooks !== null) {
        undo.push('lifecycle hooks', () => {
          hooks.podFailed(pod)
        })
        await hooks.podStarting(pod)
      }
      const directory = layout.pod(id)
      await mkdir(join(directory, 'containers'), { recursive: true, mode: 0o700 })
      undo.push('pod directory', () => rm(directory, { recursive: true, force: true }))
      await writePodRecord(this.#context, pod)
      this.#pods.set(id, pod)
      this.onMonitor(pod)
      undo.commit()
      hooks?.podStarted(pod)
      for (const type of ['created', 'started'] as const) this.#context.events.publish(type, pod)
      logger.info({ pod: id, name: config.metadata.name, namespace: config.metadata.namespace }, 'pod is ready')
      return id
    } catch (error) {
      await unwind(this.#context, id, undo)
      throw error
    } finally {
      this.#levels.delete(id)
    }
  }

  /** Empty where the host has no SELinux. */
  #takeLevel(id: string): string {
    if (this.#context.selinux === null) return ''
    const ofPods = [...this.#pods.values()].map(({ selinuxLevel }) => selinuxLevel)
    const level = freeLevel(id, new Set([...ofPods, ...this.#levels.values()]))
    this.#levels.set(id, level)
    return level
  }

  /** Ends the pod's containers and its sandbox; a pod that is unknown or has stopped is fine. */
  async stop(idOrPrefix: string): Promise<void> {
    const pod = this.find(idOrPrefix)
    // one that is being stopped looks stopped already, and is waited for
    if (pod === undefined || pod.tornDown) return
    this.#assertOpen()
    pod.stopping ??= this.#stop(pod).finally(() => {
      pod.stopping = null
    })
    await pod.stopping
  }

  async #stop(pod: Pod): Promise<void> {
    // from here on nothing new is created in it, even when this fails: it is not ready any more, and stopped again
    pod.state = 'notready'
    const ips = pod.attachment?.ips ?? []
    await detachPod(this.#context, pod)
    await endContainers(this.#context, pod)
    await this.#tellStopped(pod, ips)
    await tearDownPod(this.#context, pod)
    await writePodRecord(this.#context, pod)
    pod.tornDown = true
    this.#context.events.publish('stopped', pod)
    this.#context.logger.info({ pod: pod.id }, 'pod has stopped')
  }

  /** Once, also when what follows has to be tried again. */
  async #tellStopped(pod: Pod, ips: readonly string[]): Promise<void> {
    const { hooks } = this.#context
    if (hooks === null || pod.stopTold) return
    pod.stopTold = true
    await Promise.all([...pod.containers.values()].map(({ stopTold }) => stopTold))
    await hooks.podStopped(pod, ips)
  }

  /**
   * Keeps what the pod as a whole is given from now on. Its cgroup is its owner's: nothing is written there.
   *
   * @throws CaissonError ERR_SANDBOX_NOT_FOUND, ERR_SANDBOX_STATE
   */
  async updateResources(idOrPrefix: string, resources: PodResources): Promise<void> {
    const pod = this.require(idOrPrefix)
    if (pod.state !== 'ready') throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} is not ready`)
    const { hooks } = this.#context
    await hooks?.podUpdating(pod, resources)
    pod.resources = { ...pod.resources, ...resources }
    await writePodRecord(this.#context, pod)
    // a stop may have written meanwhile what this has overwritten
    if (!isReady(pod)) await writePodRecord(this.#context, pod)
    await hooks?.podUpdated(pod)
  }

  /** Removes the pod with its containers, stopping them first; an unknown pod is fine. */
  async remove(idOrPrefix: string): Promise<void> {
    const pod = this.find(idOrPrefix)
    if (pod === undefined) return
    pod.removal ??= this.#remove(pod).finally(() => {
      pod.removal = null
    })
    await pod.removal
  }

  async #remove(pod: Pod): Promise<void> {
    const { layout, images } = this.#context
    await this.stop(pod.id)
    const trashed = join(layout.trash, `pod-${pod.id}`)
    await mkdir(layout.trash, { recursive: true, mode: 0o700 })
    await renameIfPresent(layout.pod(pod.id), trashed)
    for (const container of pod.containers.values()) {
      const { id, snapshotter } = container
      await images.snapshotters.of(snapshotter).remove({ id, directory: join(trashed, 'containers', id) })
      await releaseImages(this.#context, container)
    }
    this.#pods.delete(pod.id)
    this.onRemoved(pod)
    const containers = [...pod.containers.values()]
    this.#tellRemoved(pod)
    await this.#tellHooksRemoved(pod, containers)
    await Promise.all([
      rm(layout.podState(pod.id), { recursive: true, force: true }),
      rm(trashed, { recursive: true, force: true }),
    ])
  }

  async #tellHooksRemoved(pod: Pod, containers: readonly Container[]): Promise<void> {
    const { hooks } = this.#context
    if (hooks === null) return
    for (const container of containers) await hooks.containerRemoved(container)
    await hooks.podRemoved(pod)
  }

  #tellRemoved(pod: Pod): void {
    const { events } = this.#context
    for (const container of [...pod.containers.values()]) {
      pod.containers.delete(container.id)
      events.publish('deleted', container)
    }
    events.publish('deleted', pod)
  }

  /** @returns undefined when no pod has this id or unique prefix */
  find(idOrPrefix: string): Pod | undefined {
    return findByPrefix(this.#pods, idOrPrefix)
  }

  /** @throws CaissonError ERR_SANDBOX_NOT_FOUND */
  require(idOrPrefix: string): Pod {
    const pod = this.find(idOrPrefix)
    if (pod === undefined) throw new CaissonError('ERR_SANDBOX_NOT_FOUND', `pod "${idOrPrefix}" does not exist`)
    return pod
  }

  /** A connection to a port of the pod, as its own processes would make it: to 127.0.0.1, or else ::1. */
  async connect(idOrPrefix: string, port: number): Promise<Socket> {
    const pod = this.require(idOrPrefix)
    if (pod.state !== 'ready' || pod.monitor === null) {
      throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} is not ready`)
    }
    return await connectInPod(this.#context.native, pod.monitor, port)
  }

  status(idOrPrefix: string): PodStatus {
    return this.require(idOrPrefix).status()
  }

  all(): Iterable<Pod> {
    return this.#pods.values()
  }

  /**
   * The connection to a monitor has ended. Where nobody answers any more the monitor has died, and so has its pod (DESIGN section
   * 2): what is left of it is ended and taken down. A monitor also ends the connection of a service that does not read, for
   * being stopped or starved; its pod lives, and is taken up again.
   */
  async monitorGone(pod: Pod): Promise<void> {
    if (pod.state === 'notready') return // it was told to go
    pod.release()
    pod.recovery = this.#recover(pod).finally(() => {
      pod.recovery = null
    })
    await pod.recovery
  }

  async #recover(pod: Pod): Promise<void> {
    const { logger } = this.#context
    try {
      if (await this.#reconnect(pod)) {
        logger.warn({ pod: pod.id }, 'the connection to the monitor of the pod was lost and is back')
        return
      }
    } catch (error) {
      logger.warn({ pod: pod.id, err: error }, 'the monitor of the pod does not answer')
    }
    if (this.#closed || pod.tornDown) return
    this.monitorsLost++
    logger.error({ pod: pod.id }, 'the monitor of the pod has died; ending the pod')
    await this.stop(pod.id).catch((error: unknown) => {
      this.#context.logger.error({ pod: pod.id, err: error }, 'cannot take down the pod of a dead monitor')
    })
  }

  /** @returns false when nobody answers, or the pod is being stopped meanwhile */
  async #reconnect(pod: Pod): Promise<boolean> {
    const monitor = await reachMonitor(this.#context, pod.id)
    if (monitor === undefined) return false
    if (this.#closed || pod.state !== 'ready') {
      monitor.close()
      return false
    }
    pod.monitor = monitor
    this.onMonitor(pod)
    for (const live of (await monitor.list()).containers) {
      const container = pod.containers.get(live.id)
      // a creation whose answer was lost has been undone here; there it is still known
      if (container === undefined) await endContainer(this.#context, pod, live.id)
      else if (live.state === 'exited') container.markExited(exitOf(live))
      else if (live.state === 'running') container.markRunning(live.startedAt)
    }
    return true
  }

  /** Ends every pod, as their lease promises when the runtime that owns them closes. */
  async stopAll(): Promise<void> {
    await Promise.all(
      [...this.#pods.keys()].map((id) =>
        this.stop(id).catch((error: unknown) => {
          this.#context.logger.error({ pod: id, err: error }, 'cannot end the pod of a runtime that closes')
        }),
      ),
    )
  }

  /** Lets go of every pod: detached ones go on, and what is under way must not end them for want of a connection. */
  close(): void {
    this.#closed = true
    for (const pod of this.#pods.values()) pod.release()
  }

  #assertOpen(): void {
    if (this.#closed) throw new CaissonError('ERR_SERVICE_STOPPING', 'the service is stopping')
  }

  /** Takes over a pod that reconciliation found. */
  adopt(pod: Pod): void {
    this.#pods.set(pod.id, pod)
    if (pod.monitor !== null) this.onMonitor(pod)
  }
}

export async function writePodRecord(context: Context, pod: Pod): Promise<void> {
  await writeRecord(context.layout.podRecord(pod.id), {
    id: pod.id,
    state: pod.state,
    createdAt: pod.createdAt,
    bootId: context.host.bootId,
    resources: pod.resources,
    config: pod.config,
    cgroupDriver: pod.cgroupDriver,
    ...(pod.selinuxLevel !== '' && { selinuxLevel: pod.selinuxLevel }),
  })
}

function isReady({ state }: Pod): boolean {
  return state === 'ready'
}

function sameMetadata(a: PodConfig['metadata'], b: PodConfig['metadata']): boolean {
  return a.name === b.name && a.namespace === b.namespace && a.uid === b.uid && a.attempt === b.attempt
}
