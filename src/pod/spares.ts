import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

import { UndoStack } from '../undo.ts'
import type { Context } from './context.ts'
import { bearPod, destroyMonitorCgroup, unwind, type PodBirth } from './pod-birth.ts'
import type { MonitorClient } from './monitor/client.ts'

/** A spare is made when no pod has been for so long. */
const idleMs = 50
/** After a failure the next try waits. */
const retryMs = 5000

/**
 * Monitors with a network namespace that stands ready, for pods to come: making one costs the kernel half a millisecond under a lock
 * that all share, and starting a monitor as much again. The id of a spare is that of the pod it becomes.
 */
export class Spares {
  readonly #context: Context
  #size: number
  readonly #ready: PodBirth[] = []
  #timer: NodeJS.Timeout | null = null
  #filling: Promise<void> | null = null
  #closed = false

  constructor(context: Context, size: number) {
    this.#context = context
    this.#size = size
  }

  /** One that stands ready; another takes its place when there is time. */
  get ready(): number {
    return this.#ready.length
  }

  take(): PodBirth | undefined {
    const spare = this.#ready.shift()
    if (spare !== undefined) spare.client.onGone = null
    this.refill()
    return spare
  }

  /** Takes over a spare that an earlier service has left. @returns false when there are enough, and the caller is to end it */
  async adopt(id: string, client: MonitorClient): Promise<boolean> {
    if (this.#ready.length >= this.#size) return false
    const undo = new UndoStack()
    undo.push('state directory', () => rm(this.#context.layout.podState(id), { recursive: true, force: true }))
    undo.push('monitor cgroup', () => destroyMonitorCgroup(this.#context, id))
    undo.push('monitor connection', () => {
      client.close()
    })
    await client.preparePod()
    this.#add({ id, client, undo })
    return true
  }

  /** Sees to it that spares are made once the service is idle. */
  refill(after = idleMs): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#closed || this.#ready.length >= this.#size) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#filling ??= this.#fill().finally(() => {
        this.#filling = null
      })
    }, after)
    this.#timer.unref()
  }

  async #fill(): Promise<void> {
    while (!this.#closed && this.#ready.length < this.#size) {
      try {
        const spare = await bearPod(this.#context)
        try {
          await spare.client.preparePod()
        } catch (error) {
          await unwind(this.#context, spare.id, spare.undo)
          throw error
        }
        this.#add(spare)
      } catch (error) {
        this.#context.logger.warn({ err: error }, 'cannot make a sandbox in advance')
        this.refill(retryMs)
        return
      }
      if (this.#timer !== null) return // a pod came between: the timer goes on with it
      await sleep(1)
    }
  }

  #add(spare: PodBirth): void {
    this.#ready.push(spare)
    spare.client.onGone = () => {
      const at = this.#ready.indexOf(spare)
      if (at === -1) return
      this.#ready.splice(at, 1)
      void unwind(this.#context, spare.id, spare.undo).then(() => {
        this.refill()
      })
    }
  }

  /** Ends those that are too many; what is missing is made once the service is idle. */
  async resize(size: number): Promise<void> {
    this.#size = size
    await this.#filling
    await this.#end(this.#ready.splice(this.#size))
    this.refill()
  }

  /** Ends them all: in an orderly end nothing stays for which there is no record. */
  async close(): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#filling
    await this.#end(this.#ready.splice(0))
  }

  async #end(spares: readonly PodBirth[]): Promise<void> {
    await Promise.all(
      spares.map(async ({ id, client, undo }) => {
        client.onGone = null
        await client.shutdown().catch((error: unknown) => {
          this.#context.logger.warn({ pod: id, err: error }, 'a sandbox made in advance did not end by itself')
        })
        await unwind(this.#context, id, undo)
      }),
    )
  }
}
