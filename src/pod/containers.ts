import { setTimeout as delay } from 'node:timers/promises'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { timerMax } from '../clock.ts'
import { CaissonError, isCaissonError } from '../errors.ts'
import { renameIfPresent } from '../files.ts'
import type { Image } from '../image/index.ts'
import { archiveOf, dropCheckpoint, type CheckpointSource } from './checkpoint/restore.ts'
import type { ContainerConfig, ContainerStatus, Resources } from './config.ts'
import { createContainer } from './create-container.ts'
import { exitOf, lostExit, notRunning, startError, type Container, type ContainerExit } from './container.ts'
import type { Context } from './context.ts'
import { findByPrefix } from './ids.ts'
import { releaseImages } from './image-volumes.ts'
import { alreadyExists, firstDifference, Joins } from './joins.ts'
import { attachTo, execPlan, startExec, type Attachment, type ExecOptions, type StreamedExec } from './exec-stream.ts'
import { isMonitorGone, type ExecResult, type WantedStreams } from './monitor/client.ts'
import type { Pod } from './pod.ts'
import type { Pods } from './pods.ts'
import { processError } from './process-errors.ts'
import { writeContainerRecord } from './container-record.ts'
import { commitContainer, exportContainer, type CommitOptions } from './root-exchange.ts'
import { endContainer } from './tear-down.ts'
import { updateContainer } from './update-container.ts'

/**
 * Bytes of exec output kept of each stream. A kubelet takes replies of 16 MiB, both streams together, so two full ones must fit
 * (CVE-2022-1708, CVE-2022-31030: unbounded output exhausted the service).
 */
const execOutputMax = (8 << 20) - 4096

/** The containers of one instance: CreateContainer and its kin, free of gRPC. */
export class Containers {
  readonly #context: Context
  readonly #pods: Pods
  readonly #containers = new Map<string, Container>()
  readonly #joins = new Joins<ContainerConfig>()

  constructor(context: Context, pods: Pods) {
    this.#context = context
    this.#pods = pods
    pods.onMonitor = (pod) => {
      this.#follow(pod)
    }
    pods.onRemoved = (pod) => {
      for (const id of pod.containers.keys()) this.#containers.delete(id)
    }
  }

  /** Brings a container to the point before exec and returns its id; an equal request that is repeated gets the same one. */
  create(podId: string, config: ContainerConfig, checkpoint?: CheckpointSource): Promise<string> {
    const pod = this.#pods.require(podId)
    const { name, attempt } = config.metadata
    if (name === '') throw new CaissonError('ERR_INVALID_ARGUMENT', 'metadata.name is empty')
    if (pod.state !== 'ready') throw new CaissonError('ERR_SANDBOX_STATE', `pod ${pod.id} is not ready`)
    const what = `container ${name} (attempt ${attempt}) of pod ${pod.id}`
    const existing = [...pod.containers.values()].find(
      ({ config: { metadata } }) => metadata.name === name && metadata.attempt === attempt,
    )
    if (existing !== undefined) {
      const field =
        existing.state === 'created' ? firstDifference(existing.config, config) : `state: it is ${existing.state}`
      if (field !== null) return Promise.reject(alreadyExists(what, existing.id, field))
      return Promise.resolve(existing.id)
    }
    return this.#joins.run(JSON.stringify([pod.id, name, attempt]), what, config, async () => {
      const target = config.pid === 'target' ? this.#target(pod, config) : null
      const container = await createContainer(this.#context, pod, config, target, checkpoint ?? archiveOf(config))
      this.adopt(container)
      this.#context.events.publish('created', container)
      await this.#context.hooks?.containerCreated(container)
      return container.id
    })
  }

  #target(pod: Pod, config: ContainerConfig): Container {
    const target = this.require(config.targetId)
    if (target.pod !== pod) {
      throw new CaissonError('ERR_INVALID_ARGUMENT', `target container ${target.id} is in another pod`)
    }
    if (target.state !== 'running') throw notRunning(target, 'join the PID namespace of')
    return target
  }

  /** Executes the process; an error says why it could not be, and the container has exited then. */
  async start(idOrPrefix: string): Promise<void> {
    const container = this.require(idOrPrefix)
    if (container.state !== 'created') {
      throw new CaissonError('ERR_CONTAINER_STATE', `cannot start container ${container.id}: it is ${container.state}`)
    }
    container.starting ??= this.#start(container).finally(() => {
      container.starting = null
    })
    await container.starting
  }

  async #start(container: Container): Promise<void> {
    const { hooks } = this.#context
    await hooks?.containerStarting(container)
    await this.#execute(container).finally(() => container.restored && dropCheckpoint(this.#context, container))
    await hooks?.containerStarted(container)
  }

  async #execute(container: Container): Promise<void> {
    const monitor = this.#monitorOf(container)
    try {
      const started = await monitor.startContainer(container.id)
      // one that is restored has no process before
      if (container.restored && container.exit === null) container.pid = started.pid
      container.markRunning(started.startedAt)
    } catch (error) {
      // the connection is lost, not the container: its end is found by whoever ends the pod, or adopts it
      if (isMonitorGone(error)) throw error
      const failure = processError(error, `start container ${container.id}`)
      if (isCaissonError(failure) && failure.code === 'ERR_CONTAINER_STATE') {
        // a service that was killed before it heard so has started it: it runs, or its exit is on its way
        const live = (await monitor.list()).containers.find(({ id }) => id === container.id)
        if (live?.state === 'running') container.markRunning(live.startedAt)
      } else {
        container.markExited(startError(error instanceof Error ? error.message : String(error)))
        await writeContainerRecord(this.#context, container)
      }
      throw failure
    }
  }

  /**
   * Sends the stop signal once, waits `timeoutSeconds`, then kills. Fine when it has exited or is unknown; one that is being started
   * is stopped too. Concurrent calls share the signal; the one whose time ends first kills.
   */
  async stop(idOrPrefix: string, timeoutSeconds: number, signal?: AbortSignal): Promise<void> {
    const container = this.find(idOrPrefix)
    if (container === undefined) return
    if (container.state === 'running' || container.starting !== null) {
      await this.#stop(container, timeoutSeconds, signal)
    }
    await container.stopTold
  }

  async #stop(container: Container, timeoutSeconds: number, signal: AbortSignal | undefined): Promise<void> {
    try {
      // the signal is for its program, not for what comes before; a start that takes all the time is ended with it
      if (timeoutSeconds > 0 && (await startedWithin(container, timeoutSeconds, signal))) {
        if (container.state === 'created') return // its start was refused
        if (!container.stopSignalled) {
          container.stopSignalled = true
          // refused when it is ending by itself, which is all that a stop wants
          await unlessRefused(this.#monitorOf(container).signalContainer(container.id, container.stopSignal))
        }
        if (await within(container.exited, timeoutSeconds, signal)) return
      }
      await unlessRefused(this.#monitorOf(container).kill(container.id))
    } catch (error) {
      if (!isMonitorGone(error)) throw error
      await container.pod.recovery // a pod whose monitor has died is ended
      if (container.pod.state === 'ready') throw error
      await this.#pods.stop(container.pod.id)
    }
    await Promise.race([container.exited, aborted(signal)])
  }

  /** Sends any signal to the first process. */
  async signal(idOrPrefix: string, number: number): Promise<void> {
    const container = this.require(idOrPrefix)
    if (container.state !== 'running') throw notRunning(container, 'signal')
    await this.#monitorOf(container)
      .signalContainer(container.id, number)
      .catch(rethrown(`signal container ${container.id}`))
  }

  /** Removes a container, killing it first when it runs; its log stays. An unknown one is fine. */
  async remove(idOrPrefix: string): Promise<void> {
    const container = this.find(idOrPrefix)
    if (container === undefined) return
    container.removal ??= this.#remove(container).finally(() => {
      container.removal = null
    })
    await container.removal
  }

  async #remove(container: Container): Promise<void> {
    const { layout, images } = this.#context
    const { id, pod } = container
    await endContainer(this.#context, pod, id)
    container.markExited(lostExit('removed')) // where its monitor has died, nobody else tells who waits
    await mkdir(layout.trash, { recursive: true, mode: 0o700 })
    const trashed = join(layout.trash, `container-${id}`)
    await renameIfPresent(layout.container(pod.id, id), trashed)
    this.#containers.delete(id)
    // a removal of its pod has told that already
    if (pod.containers.delete(id)) {
      this.#context.events.publish('deleted', container)
      await container.stopTold
      await this.#context.hooks?.containerRemoved(container)
    }
    await images.snapshotters.of(container.snapshotter).remove({ id, directory: trashed })
    await releaseImages(this.#context, container)
    await rm(trashed, { recursive: true, force: true })
  }

  /**
   * Runs a command beside the container's first process, with its identity, and waits for it.
   *
   * @param timeoutSeconds 0: no limit; when it ends, all that the command started is killed
   */
  async exec(idOrPrefix: string, args: readonly string[], timeoutSeconds: number): Promise<ExecResult> {
    const container = this.require(idOrPrefix)
    const memfd = execPlan(this.#context, container, args, false)
    try {
      return await this.#monitorOf(container).exec(container.id, memfd.fd, timeoutSeconds * 1000, execOutputMax)
    } catch (error) {
      throw processError(error, `exec in container ${container.id}`)
    } finally {
      memfd.close()
    }
  }

  /**
   * Changes the limits of a container that was created or runs; what is absent or zero stays as it is. All of it or nothing.
   *
   * @throws CaissonError ERR_CONTAINER_NOT_FOUND, ERR_CONTAINER_STATE, ERR_INVALID_ARGUMENT; native errors of what the kernel refuses,
   *   and of a memory limit that is not above what is used
   */
  async update(idOrPrefix: string, change: Resources): Promise<void> {
    const container = this.require(idOrPrefix)
    const { hooks } = this.#context
    await this.updateDirectly(container.id, hooks === null ? change : await hooks.containerUpdating(container, change))
    await hooks?.containerUpdated(container)
  }

  /** The same without asking hooks: for what they want themselves. */
  async updateDirectly(idOrPrefix: string, change: Resources): Promise<void> {
    const container = this.require(idOrPrefix)
    const result = container.updating.then(() => updateContainer(this.#context, container, change))
    container.updating = result.catch(() => undefined) // whose it is hears of it
    await result
  }

  /**
   * Makes an image of what a container has changed: its image's layers and one upon them, without what was mounted into it. The
   * image says of its process what the container's image says, not what the container was given; `changes` are applied to it.
   *
   * @throws CaissonError ERR_CONTAINER_NOT_FOUND, ERR_IMAGE_NOT_FOUND when the container's image is gone, ERR_IMAGE_REFERENCE,
   *   ERR_INVALID_ARGUMENT
   */
  async commit(idOrPrefix: string, options: CommitOptions = {}): Promise<Image> {
    const container = this.require(idOrPrefix)
    return container.exclusive(() => commitContainer(this.#context, container, options))
  }

  /**
   * The root file system of a container as a tar, as it is read: whole trees as the container sees them, without what is mounted into
   * it. A container that runs goes on meanwhile.
   *
   * @throws CaissonError ERR_CONTAINER_NOT_FOUND
   */
  export(
    idOrPrefix: string,
    { signal = new AbortController().signal }: { signal?: AbortSignal } = {},
  ): AsyncGenerator<Buffer, void, undefined> {
    return exportContainer(this.#context, this.require(idOrPrefix), signal)
  }

  /** Runs a command beside the container's first process, its streams in the caller's hands. */
  async execStream(idOrPrefix: string, args: readonly string[], options: ExecOptions): Promise<StreamedExec> {
    const container = this.require(idOrPrefix)
    return await startExec(this.#context, this.#monitorOf(container), container, args, options)
  }

  /** What a container that is created or runs writes from now on, and its standard input. */
  async attach(idOrPrefix: string, wanted: WantedStreams): Promise<Attachment> {
    const container = this.require(idOrPrefix)
    return await attachTo(this.#monitorOf(container), container, wanted)
  }

  /** Switches to a new log file at the same path, after the old one was renamed. */
  async reopenLog(idOrPrefix: string): Promise<void> {
    const container = this.require(idOrPrefix)
    if (container.state !== 'running') throw notRunning(container, 'reopen the log of')
    await this.#monitorOf(container)
      .reopenLog(container.id)
      .catch(rethrown(`reopen the log of container ${container.id}`))
  }

  /** Resolves when the container has exited. */
  async wait(idOrPrefix: string, signal?: AbortSignal): Promise<ContainerExit> {
    return await Promise.race([this.require(idOrPrefix).exited, aborted(signal)])
  }

  find(idOrPrefix: string): Container | undefined {
    return findByPrefix(this.#containers, idOrPrefix)
  }

  /** @throws CaissonError ERR_CONTAINER_NOT_FOUND */
  require(idOrPrefix: string): Container {
    const container = this.find(idOrPrefix)
    if (container === undefined) {
      throw new CaissonError('ERR_CONTAINER_NOT_FOUND', `container "${idOrPrefix}" does not exist`)
    }
    return container
  }

  /** @throws CaissonError ERR_CONTAINER_NOT_FOUND, ERR_CONTAINER_STATE "cannot <what> container …" */
  requireRunning(idOrPrefix: string, what: string): Container {
    const container = this.require(idOrPrefix)
    if (container.state !== 'running') throw notRunning(container, what)
    return container
  }

  status(idOrPrefix: string): ContainerStatus {
    return this.require(idOrPrefix).status()
  }

  all(): Iterable<Container> {
    return this.#containers.values()
  }

  adopt(container: Container): void {
    container.onEvent = (type) => {
      const { events, hooks } = this.#context
      events.publish(type, container)
      if (type === 'stopped' && hooks !== null) container.stopTold = hooks.containerStopped(container)
    }
    this.#containers.set(container.id, container)
    container.pod.containers.set(container.id, container)
  }

  #follow(pod: Pod): void {
    const { monitor } = pod
    if (monitor === null) return
    monitor.onExit = (told) => {
      const container = this.#containers.get(told.id)
      const exit = exitOf(told)
      const { starting = null } = container ?? {}
      if (starting === null || exit.reason !== 'StartError') {
        container?.markExited(exit)
        return
      }
      // the answer to the start names the cause, and comes after
      const mark = (): void => container?.markExited(exit)
      starting.then(mark, mark)
    }
    monitor.onGone = () => {
      void this.#pods.monitorGone(pod)
    }
  }

  #monitorOf(container: Container): NonNullable<Pod['monitor']> {
    const { monitor } = container.pod
    if (monitor === null) throw new CaissonError('ERR_MONITOR_GONE', `pod ${container.pod.id} has no monitor any more`)
    return monitor
  }
}

function rethrown(task: string): (error: unknown) => never {
  return (error) => {
    throw processError(error, task)
  }
}

/** Passes over what a monitor answers when there is no process any more: EINVAL, ESRCH, ENOENT. */
async function unlessRefused(request: Promise<void>): Promise<void> {
  try {
    await request
  } catch (error) {
    if (!['EINVAL', 'ESRCH', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}

async function startedWithin(container: Container, seconds: number, signal: AbortSignal | undefined): Promise<boolean> {
  const { state, starting } = container
  if (state !== 'created' || starting === null) return true
  const over = starting.catch(() => undefined) // whoever starts it is told why it could not be
  return within(over, seconds, signal)
}

/** @returns false when the time has ended first */
async function within(event: Promise<unknown>, seconds: number, signal: AbortSignal | undefined): Promise<boolean> {
  const timer = new AbortController()
  const stop = signal === undefined ? timer.signal : AbortSignal.any([timer.signal, signal])
  try {
    return await Promise.race([
      event.then(() => true),
      delay(Math.min(seconds * 1000, timerMax), false, { signal: stop, ref: false }),
    ])
  } finally {
    timer.abort()
  }
}

/** Rejects when the signal aborts; otherwise never settles. */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal?.aborted === true) reject(signal.reason as Error)
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}
