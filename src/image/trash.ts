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

  /** Removes what the image store has put there; another process may do the same meanwhile. */
  async empty(): Promise<void> {
    const names = (await readdir(this.#paths.trash)).filter((name) => name.startsWith('image-'))
    if (names.length === 0) return
    const directory = await this.#native.openDirectory(this.#paths.trash)
    try {
      for (const name of names) await this.#native.removeTree(directory.fd, name)
    } finally {
      directory.close()
    }
  }
}
