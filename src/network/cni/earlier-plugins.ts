import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { isCaissonError } from '../../errors.ts'
import { flock } from '../../flock.ts'
import type { Native, NativeFd } from '../../native/types.ts'

/**
 * Plugins that a service has left when it was killed: an ADD that goes on beside a DEL makes what nobody deletes. Each plugin holds
 * a lock of its pod for as long as it lives, by a descriptor that it inherits (flock(2)).
 */
export class EarlierPlugins {
  readonly #native: Pick<Native, 'lockFile'>
  readonly #directory: string
  /** Pods for which this process has executed plugins: it knows of their end itself. */
  readonly #own = new Set<string>()
  #made: Promise<unknown> | null = null

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
    const path = join(this.#directory, podId)
    const patience = this.#own.has(podId) ? 0 : timeoutMs
    this.#own.add(podId)
    this.#made ??= mkdir(this.#directory, { recursive: true, mode: 0o700 })
    await this.#made
    try {
      return await flock(this.#native, path, { timeoutMs: patience })
    } catch (error) {
      if (isCaissonError(error) && error.code === 'ERR_DEADLINE_EXCEEDED') return null
      throw error
    }
  }

  /** The pod is detached. */
  async forget(podId: string): Promise<void> {
    this.#own.delete(podId)
    await rm(join(this.#directory, podId), { force: true })
  }
}
