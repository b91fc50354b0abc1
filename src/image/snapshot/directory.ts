import { basename, join } from 'node:path'

import { ifPresent, withDirectory } from '../../files.ts'
import type { Native } from '../../native/types.ts'
import type { SnapshotKey, SnapshotUsage } from './snapshotter.ts'

/** What snapshotters need of the native half. */
export type SnapshotNative = Pick<
  Native,
  | 'openDirectory'
  | 'removeTree'
  | 'treeUsage'
  | 'cloneTree'
  | 'diffTree'
  | 'projectLimit'
  | 'projectUsage'
  | 'projectRelease'
  | 'mountImage'
  | 'mountDevice'
  | 'mountErofs'
  | 'unpackLayer'
  | 'letGo'
  | 'mapperCreate'
  | 'mapperStatus'
  | 'mapperRemove'
  | 'mapperMessage'
  | 'mapperSuspend'
  | 'blockSize'
  | 'lockFile'
>

/** What a snapshot has in its owner's directory. */
export function snapshotDirectory(key: SnapshotKey): string {
  return join(key.directory, 'rootfs')
}

/** @returns false where the file system keeps no project quotas */
export async function limitDirectory(
  native: Pick<Native, 'openDirectory' | 'projectLimit'>,
  path: string,
  bytes: number,
): Promise<boolean> {
  try {
    await withDirectory(native, path, ({ fd }) => native.projectLimit(fd, bytes))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTSUP') throw error
    return false
  }
}

/** Takes away what a snapshot has in its owner's directory, and the limit on it; absent is fine. */
export async function removeDirectory(
  native: Pick<Native, 'openDirectory' | 'removeTree' | 'projectRelease'>,
  key: SnapshotKey,
): Promise<void> {
  await ifPresent(
    withDirectory(native, key.directory, async ({ fd }) => {
      const name = basename(snapshotDirectory(key))
      // the limit first: a project whose directory is gone is found no more
      await native.projectRelease(fd, name)
      await native.removeTree(fd, name)
    }),
  )
}

/** Walks cost: what one found stands for ten times as long as it took, and a second at least. */
const validFactor = 10
const validMinMs = 1000

/**
 * What directories of snapshots take: by the account of the file system where they have a quota project, else by walks, each of
 * which answers all who ask while it lasts and for a while after.
 */
export class UsageCache {
  readonly #native: Pick<Native, 'openDirectory' | 'treeUsage' | 'projectUsage'>
  readonly #walks = new Map<string, { until: number; usage: Promise<SnapshotUsage> }>()

  constructor(native: Pick<Native, 'openDirectory' | 'treeUsage' | 'projectUsage'>) {
    this.#native = native
  }

  async of(key: SnapshotKey): Promise<SnapshotUsage> {
    try {
      return await withDirectory(this.#native, snapshotDirectory(key), ({ fd }) => this.#native.projectUsage(fd))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENODATA') throw error
    }
    const known = this.#walks.get(key.id)
    if (known !== undefined && performance.now() < known.until) return known.usage
    const walk = { until: Infinity, usage: this.#walk(key) }
    this.#walks.set(key.id, walk)
    const began = performance.now()
    try {
      const usage = await walk.usage
      const ended = performance.now()
      walk.until = ended + Math.max(validMinMs, (ended - began) * validFactor)
      return usage
    } catch (error) {
      this.#walks.delete(key.id)
      throw error
    }
  }

  forget(key: SnapshotKey): void {
    this.#walks.delete(key.id)
  }

  async #walk(key: SnapshotKey): Promise<SnapshotUsage> {
    const { bytes, inodes } = await withDirectory(this.#native, key.directory, ({ fd }) =>
      this.#native.treeUsage(fd, basename(snapshotDirectory(key))),
    )
    return { bytes, inodes }
  }
}
