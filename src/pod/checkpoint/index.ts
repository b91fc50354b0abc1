import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { timerMax } from '../../clock.ts'
import { CaissonError } from '../../errors.ts'
import type { Container } from '../container.ts'
import type { Containers } from '../containers.ts'
import type { Context } from '../context.ts'
import { whilePaused } from '../pause.ts'
import type { Pods } from '../pods.ts'
import { findCriu } from './criu.ts'
import { checkDumpable, checkTarget, dumpContainer, packDirectory } from './dump.ts'
import { PodCheckpoint, type PodCheckpointRequest } from './pod-checkpoint.ts'
import { restorePod, type PodRestoreRequest, type RestoredPod } from './pod-restore.ts'
import { WantedWrites } from './wanted-writes.ts'

export type { CriuSettings } from './criu.ts'
export type { PodCheckpointRequest } from './pod-checkpoint.ts'
export type { PodRestoreRequest, RestoredPod } from './pod-restore.ts'

/** CheckpointContainer, CheckpointPod and RestorePod, free of gRPC. */
export class Checkpoints {
  readonly #context: Context
  readonly #pods: Pods
  readonly #containers: Containers
  /** Ids of containers that are being written. */
  readonly #running = new Set<string>()
  readonly #wanted = new WantedWrites()

  constructor(context: Context, pods: Pods, containers: Containers) {
    this.#context = context
    this.#pods = pods
    this.#containers = containers
  }

  /**
   * Writes a running container to an archive, and lets it go on: its processes by criu, and what it has changed of its root file
   * system, both of one moment. `create` with the path of an archive as image makes a container of it.
   *
   * An equal request meanwhile gets the same archive; one that nobody waits for any more is taken away.
   *
   * @param timeoutMs after which the call fails, and the archive does not come; what has begun is ended in good order all the same;
   *   0: what the configuration says
   * @param caller aborted when nobody waits for this call any more
   * @throws CaissonError ERR_CONTAINER_NOT_FOUND, ERR_CONTAINER_STATE, ERR_INVALID_ARGUMENT, ERR_DEADLINE_EXCEEDED,
   *   ERR_FAILED_PRECONDITION: no criu, or a container that shares too much; ERR_CHECKPOINT: what criu says
   */
  async container(idOrPrefix: string, location: string, timeoutMs = 0, caller?: AbortSignal): Promise<void> {
    const container = this.#containers.require(idOrPrefix)
    const write = async (): Promise<void> => {
      await checkTarget(this.#context.native, location, 'location')
      await this.#within(timeoutMs, [container], async (criu, signal) => {
        await this.#dump(criu, [container], async ([directory]) => {
          await packDirectory(this.#context, directory ?? '', location, { signal })
        })
      })
    }
    const discard = (): Promise<void> => rm(location, { force: true })
    await this.#wanted.run(location, { container: container.id }, { write, discard }, caller)
  }

  /** Several containers of one pod, of one moment; see `PodCheckpointRequest`. `caller` as above. */
  async pod(request: PodCheckpointRequest, caller?: AbortSignal): Promise<void> {
    const pod = this.#pods.require(request.podId)
    let checkpoint: PodCheckpoint | undefined
    const discard = async (): Promise<void> => checkpoint?.discard()
    const write = async (): Promise<void> => {
      const prepared = await PodCheckpoint.prepare(this.#context, pod, request)
      checkpoint = prepared
      const { containers } = prepared
      await this.#within(0, containers, async (criu, signal) => {
        try {
          const meanwhile = (): Promise<void> => prepared.writeShared(signal)
          await this.#dump(criu, containers, (directories) => prepared.write(directories, signal), meanwhile)
        } catch (error) {
          await prepared.discard()
          throw error
        }
      })
    }
    await this.#wanted.run(request.outputPath, { ...request, podId: pod.id }, { write, discard }, caller)
  }

  /** Makes a pod of what `pod` has written: its containers are created, and go on when they are started. */
  restore(request: PodRestoreRequest): Promise<RestoredPod> {
    return restorePod(this.#context, this.#pods, this.#containers, request)
  }

  /** Runs `work` unless one of the containers is being written already, and waits for it so long. */
  async #within(
    timeoutMs: number,
    containers: readonly Container[],
    work: (criu: string, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const criu = await findCriu(this.#context.criu)
    for (const container of containers) {
      checkDumpable(container)
      if (this.#running.has(container.id)) {
        throw new CaissonError('ERR_FAILED_PRECONDITION', `container ${container.id} is being checkpointed already`)
      }
    }
    const limit = Math.min(timeoutMs === 0 ? this.#context.criu.timeoutMs : timeoutMs, timerMax)
    const late = new AbortController()
    const done = new AbortController()
    for (const { id } of containers) this.#running.add(id)
    const result = work(criu, late.signal).finally(() => {
      for (const { id } of containers) this.#running.delete(id)
      done.abort()
    })
    const tooLate = delay(limit, undefined, { signal: done.signal }).then(
      () => {
        const error = new CaissonError('ERR_DEADLINE_EXCEEDED', `the checkpoint has not ended within ${limit} ms`)
        late.abort(error)
        throw error
      },
      () => result, // it has ended
    )
    await Promise.race([result, tooLate])
  }

  /** Freezes all of them before the first is written, so that they are of one moment. */
  async #dump(
    criu: string,
    containers: readonly Container[],
    write: (directories: readonly string[]) => Promise<void>,
    meanwhile: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    const directories: string[] = []
    const { layout } = this.#context
    const freeze = async (rest: readonly Container[], dumps: readonly (() => Promise<void>)[]): Promise<void> => {
      const [container, ...others] = rest
      if (container === undefined) {
        for (const dump of dumps) await dump()
        await meanwhile()
        return
      }
      await container.exclusive(() =>
        whilePaused(this.#context, container, async (paused) => {
          const directory = join(layout.container(container.pod.id, container.id), 'dump')
          await rm(directory, { recursive: true, force: true }) // of a service that was killed
          await mkdir(directory, { mode: 0o700 })
          directories.push(directory)
          await freeze(others, [...dumps, () => dumpContainer(this.#context, container, criu, paused, directory)])
        }),
      )
    }
    try {
      await freeze(containers, [])
      await write(directories)
    } finally {
      for (const directory of directories) await rm(directory, { recursive: true, force: true })
    }
  }
}
