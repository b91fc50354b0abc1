import { unwatchFile, watch, watchFile, type FSWatcher } from 'node:fs'
import type { ImageLogger } from './logger.ts'
import type { ImagePaths } from './paths.ts'

/** How often index.json is looked at where it cannot be watched, ms. */
const pollMs = 1000

/** Calls `refresh` when another process has changed index.json: one call at a time, and again when it changed meanwhile. */
export class IndexWatch {
  readonly #paths: ImagePaths
  readonly #logger: ImageLogger
  readonly #refresh: () => Promise<void>
  #watcher: FSWatcher | null = null
  #refreshing: Promise<void> | null = null
  #changed = false

  constructor(paths: ImagePaths, logger: ImageLogger, refresh: () => Promise<void>) {
    this.#paths = paths
    this.#logger = logger
    this.#refresh = refresh
    try {
      this.#watcher = watch(paths.layout, { persistent: false }, (_event, name) => {
        if (name === 'index.json') this.#onChange()
      })
      this.#watcher.on('error', (error) => logger.warn({ err: error }, 'the image store is no longer watched'))
    } catch (error) {
      // inotify(7): the user's instances or watches may be used up
      logger.warn({ err: error }, 'the image store cannot be watched: it is polled')
      watchFile(paths.index, { persistent: false, interval: pollMs }, this.#onChange)
    }
  }

  readonly #onChange = (): void => {
    this.#changed = true
    this.#refreshing ??= this.#follow()
      .catch((error: unknown) => {
        this.#logger.warn({ err: error }, 'the image store has changed and cannot be read; the last good state stays')
      })
      .finally(() => (this.#refreshing = null))
  }

  async #follow(): Promise<void> {
    while (this.#changed) {
      this.#changed = false
      await this.#refresh()
    }
  }

  async close(): Promise<void> {
    this.#watcher?.close()
    this.#watcher = null
    unwatchFile(this.#paths.index, this.#onChange)
    await this.#refreshing
  }
}
