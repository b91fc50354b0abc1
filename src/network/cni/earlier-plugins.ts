import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import type { Native, NativeFd } from '../../native/types.ts'

const pollMs = 20

/**
 * Plugins that a service has left when it was killed: an ADD that goes on beside a DEL makes what nobody deletes. Each plugin holds
 * a lock of its pod for as long as it lives, by a descriptor that it inherits (flock(2)).
 */
export class EarlierPlugins {
  readonly #native: Pick<Native, 'lockFile'>
  readonly #directory: string
  /** Pods for which this process has executed plugins: it knows of their end itself. */
  readonly #own = new Set<string>()

  constructor(native: Pick<Native, 'lockFile'>, directory: string) {
    this.#native = native
    this.#directory = directory
  }

  /**
   * Waits for the pod's earlier plugins, no longer than one may take: what a plugin has left in the background may hold the lock for
   * ever.
   *
   * @returns what the next plugin is to inherit; null where the lock is not to be had
   */
  async outwait(podId: string, timeoutMs: number): Promise<NativeFd | null> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    const path = join(this.#directory, podId)
    const patience = this.#own.has(podId) ? 0 : timeoutMs
    this.#own.add(podId)
    const deadline = performance.now() + patience
    for (;;) {
      try {
        return await this.#native.lockFile(path)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      }
      if (performance.now() >= deadline) return null
      await sleep(pollMs)
    }
  }

  /** The pod is detached. */
  async forget(podId: string): Promise<void> {
    this.#own.delete(podId)
    await rm(join(this.#directory, podId), { force: true })
  }
}
