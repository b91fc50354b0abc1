import { watch, type FSWatcher } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

import type { NetworkLogger } from '../networks.ts'
import { parseNetworkList, type NetworkList } from './config.ts'

const settleMs = 50

/**
 * The configuration directory, in memory: read at the start and whenever it changes, so that an operator, or the pod of a network
 * provider, can bring a network while the service runs. Files are taken in the order of their names; the first valid one is the
 * default network.
 */
export class ConfigDirectory {
  readonly #path: string
  readonly #logger: NetworkLogger
  #lists: NetworkList[] = []
  #errors: Error[] = []
  #watcher: FSWatcher | null = null
  #timer: NodeJS.Timeout | null = null
  #reading: Promise<void> = Promise.resolve()
  #closed = false
  /** The lists have changed. */
  onChange: () => void = () => undefined

  private constructor(path: string, logger: NetworkLogger) {
    this.#path = path
    this.#logger = logger
  }

  static async open(path: string, logger: NetworkLogger): Promise<ConfigDirectory> {
    const directory = new ConfigDirectory(path, logger)
    directory.#watch()
    await directory.#read()
    return directory
  }

  get path(): string {
    return this.#path
  }

  /** Undefined: there is no valid one. */
  get first(): NetworkList | undefined {
    return this.#lists[0]
  }

  find(name: string): NetworkList | undefined {
    return this.#lists.find((list) => list.name === name)
  }

  get lists(): readonly NetworkList[] {
    return this.#lists
  }

  /** What is wrong with files that are there. */
  get errors(): readonly Error[] {
    return this.#errors
  }

  /** Resolves when what is on the disk now has been read. */
  async reload(): Promise<void> {
    await this.#read()
  }

  close(): void {
    this.#closed = true
    this.#watcher?.close()
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  async #read(): Promise<void> {
    // one after the other: what is read last is what counts
    this.#reading = this.#reading.then(() => this.#readNow())
    await this.#reading
  }

  async #readNow(): Promise<void> {
    const lists: NetworkList[] = []
    const errors: Error[] = []
    for (const file of await this.#files()) {
      try {
        lists.push(parseNetworkList(await readFile(file, 'utf8'), file))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') errors.push(error as Error)
      }
    }
    for (const error of errors) {
      if (!this.#errors.some(({ message }) => message === error.message)) {
        this.#logger.warn({ err: error }, 'a configuration of CNI is not valid; it is left out')
      }
    }
    const changed = JSON.stringify(lists) !== JSON.stringify(this.#lists)
    this.#lists = lists
    this.#errors = errors
    if (changed) this.onChange()
  }

  async #files(): Promise<string[]> {
    try {
      const names = await readdir(this.#path)
      return names
        .filter((name) => /\.(conflist|conf|json)$/.test(name))
        .sort()
        .map((name) => join(this.#path, name))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#logger.warn({ err: error }, `cannot read ${this.#path}`)
      return []
    }
  }

  /** A directory that is not there yet is waited for by the nearest one above that is. */
  #watch(): void {
    this.#watcher?.close()
    this.#watcher = null
    if (this.#closed) return
    for (let [path, below] = [this.#path, '']; ; [path, below] = [dirname(path), basename(path)]) {
      try {
        const watcher = watch(path, { persistent: false }, (_event, name) => {
          if (below === '' || name === below || name === null) this.#changed(below !== '')
        })
        watcher.on('error', () => this.#changed(true)) // the directory itself is gone
        this.#watcher = watcher
        return
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'ENOENT' && path !== '/') continue
        this.#logger.warn({ err: error }, `cannot watch ${path}: changes of CNI's configuration need a restart`)
        return
      }
    }
  }

  #changed(again: boolean): void {
    if (again) this.#watch()
    // writers take several steps: a file is read once they are done
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#watch() // a directory that was replaced is another inode
      void this.#read()
    }, settleMs)
    this.#timer.unref()
  }
}
