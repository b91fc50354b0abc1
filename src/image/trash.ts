import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ifPresent, renameIfPresent, withDirectory } from '../files.ts'
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
    await renameIfPresent(path, join(this.#paths.trash, `image-${randomBytes(12).toString('hex')}`))
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
    await withDirectory(this.#native, this.#paths.trash, async ({ fd }) => {
      // another process may remove the same tree: what one of them misses, the next to empty the trash takes
      for (const name of names) await ifPresent(this.#native.removeTree(fd, name))
    })
  }
}
