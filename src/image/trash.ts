import { randomBytes } from 'node:crypto'
import { readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Native } from '../native/types.ts'
import type { ImagePaths } from './paths.ts'

/**
 * Deletion in two steps: a rename that takes the object out of use at once, and a removal that may take its time and be
 * interrupted.
 */
export class Trash {
  readonly #native: Pick<Native, 'openDirectory' | 'removeTree'>
  readonly #paths: ImagePaths
  /** One at a time in this process: two removals of one tree get in each other's way. */
  #tail: Promise<unknown> = Promise.resolve()

  constructor(native: Pick<Native, 'openDirectory' | 'removeTree'>, paths: ImagePaths) {
    this.#native = native
    this.#paths = paths
  }

  /** Absent is fine. */
  async take(path: string): Promise<void> {
    try {
      await rename(path, join(this.#paths.trash, `image-${randomBytes(12).toString('hex')}`))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }

  /** Removes what the image store has put there. */
  empty(): Promise<void> {
    const result = this.#tail.then(() => this.#remove())
    this.#tail = result.catch(() => undefined)
    return result
  }

  async #remove(): Promise<void> {
    const names = (await readdir(this.#paths.trash)).filter((name) => name.startsWith('image-'))
    if (names.length === 0) return
    const directory = await this.#native.openDirectory(this.#paths.trash)
    try {
      for (const name of names) {
        try {
          await this.#native.removeTree(directory.fd, name)
        } catch (error) {
          // another process removes the same tree: what one of them misses, the next to empty the trash takes
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
        }
      }
    } finally {
      directory.close()
    }
  }
}
