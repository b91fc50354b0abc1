import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ImagePaths } from './paths.ts'
import { isAlive, type ProcessIdentity } from '../process-identity.ts'
import type { Trash } from './trash.ts'

/** Names in tmp/ that say whose they are, so that what a killed process left is found by the next one to start. */
export class Workspace {
  readonly #paths: ImagePaths
  readonly #self: ProcessIdentity

  constructor(paths: ImagePaths, self: ProcessIdentity) {
    this.#paths = paths
    this.#self = self
  }

  /** A path in tmp/ that is in nobody's use. */
  path(): string {
    const { pid, startTime, bootId } = this.#self
    return join(this.#paths.tmp, `image-${pid}-${startTime}-${bootId.slice(0, 8)}-${randomBytes(8).toString('hex')}`)
  }

  /** Throws away what processes that are gone have left. @returns how many there were */
  async sweep(trash: Trash): Promise<number> {
    let swept = 0
    for (const name of await readdir(this.#paths.tmp)) {
      const match = /^image-(\d+)-(\d+)-([0-9a-f]{8})-[0-9a-f]+$/.exec(name)
      if (match === null) continue
      const [, pid, startTime = '', boot] = match
      // the name has room for the beginning of the boot id only
      const bootId = boot === this.#self.bootId.slice(0, 8) ? this.#self.bootId : ''
      if (await isAlive({ pid: Number(pid), startTime, bootId })) continue
      await trash.take(join(this.#paths.tmp, name))
      swept++
    }
    return swept
  }
}
