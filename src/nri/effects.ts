import { errorMessage } from '../errors.ts'
import type { Logger, Runtime } from '../index.ts'
import type { Effects } from './hooks.ts'
import type { NriEviction, NriUpdate } from './messages.ts'
import { resourcesOf } from './resources.ts'

/** What a container that is evicted is given to end by itself. */
const evictionSeconds = 10

/** Does what plugins want of containers that are there. None of it is asked of plugins again. */
export class RuntimeEffects implements Effects {
  readonly #runtime: Runtime
  readonly #logger: Logger

  constructor(runtime: Runtime, logger: Logger) {
    this.#runtime = runtime
    this.#logger = logger
  }

  async update(changes: readonly NriUpdate[]): Promise<void> {
    for (const change of changes) {
      try {
        await this.#update(change, 'of the request')
      } catch (error) {
        if (change.ignoreFailure !== true) throw error
        this.#logged(change, error)
      }
    }
  }

  /** Each by itself. @returns those that could not be made, and should have been */
  async updateEach(plugin: string, changes: readonly NriUpdate[]): Promise<NriUpdate[]> {
    const failed: NriUpdate[] = []
    for (const change of changes) {
      try {
        await this.#update(change, plugin)
      } catch (error) {
        this.#logged(change, error)
        if (change.ignoreFailure !== true) failed.push(change)
      }
    }
    return failed
  }

  async #update({ containerId, linux }: NriUpdate, plugin: string): Promise<void> {
    const { resources } = linux ?? {}
    if (resources == null) return
    await this.#runtime.containers.updateDirectly(containerId ?? '', resourcesOf(resources, plugin))
  }

  evict(plugin: string, evictions: readonly NriEviction[]): void {
    for (const { containerId, reason } of evictions) {
      const container = containerId ?? ''
      this.#logger.warn({ plugin, container, reason }, 'an NRI plugin evicts a container')
      this.#runtime.containers.stop(container, evictionSeconds).catch((error: unknown) => {
        this.#logger.error({ plugin, container, err: error }, 'an evicted container could not be stopped')
      })
    }
  }

  #logged({ containerId }: NriUpdate, error: unknown): void {
    this.#logger.warn({ container: containerId, reason: errorMessage(error) }, 'an update by an NRI plugin failed')
  }
}
