import { mkdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'

import type { Native } from '../../native/types.ts'
import type { ChainLink } from '../chain.ts'
import type { LayerStore } from '../layers.ts'
import type { LayerDescriptor } from '../manifest.ts'
import type { ImagePaths } from '../paths.ts'
import type { Workspace } from '../workspace.ts'
import { commitChanges } from './commit.ts'
import type { Changes, OverlayRoot, SnapshotKey, Snapshotter } from './snapshotter.ts'
import { cloneTree } from './trees.ts'
import { makeUpper, snapshotDirectory, upperOf } from './upper.ts'

export interface OverlayParts {
  native: Pick<Native, 'openDirectory' | 'removeTree' | 'cloneTree'>
  paths: ImagePaths
  layers: LayerStore
  workspace: Workspace
}

/** A lower that hides nothing: overlayfs wants two of them where there is no upper directory. */
const emptyLayer = 'empty'

/**
 * overlayfs over directories: each layer is unpacked once (`layers/fs/<directory>`), and shared by all containers; a snapshot is
 * `rootfs/{upper,work}` in its owner's directory.
 */
export class OverlaySnapshotter implements Snapshotter {
  readonly name = 'overlay'
  readonly #parts: OverlayParts

  constructor(parts: OverlayParts) {
    this.#parts = parts
  }

  unpack(link: ChainLink, blob: LayerDescriptor, signal: AbortSignal): Promise<boolean> {
    return this.#parts.layers.unpack(link, blob, signal)
  }

  async prepare(key: SnapshotKey, layers: readonly ChainLink[]): Promise<OverlayRoot> {
    const topmost = layers.at(-1)?.directory ?? emptyLayer
    await makeUpper(key, await stat(join(this.#parts.paths.layers, topmost)))
    return this.#root(layers, snapshotDirectory(key))
  }

  async view(_key: SnapshotKey, layers: readonly ChainLink[]): Promise<OverlayRoot> {
    await mkdir(join(this.#parts.paths.layers, emptyLayer), { mode: 0o755, recursive: true })
    return this.#root(layers, null)
  }

  async mount(key: SnapshotKey, layers: readonly ChainLink[]): Promise<OverlayRoot> {
    const directory = snapshotDirectory(key)
    try {
      await stat(directory)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return this.view(key, layers)
    }
    return this.#root(layers, directory)
  }

  commit(
    key: SnapshotKey,
    _layers: readonly ChainLink[],
    describe: (changes: Changes) => Promise<ChainLink>,
    options: { signal?: AbortSignal } = {},
  ): Promise<ChainLink> {
    const upper = upperOf(snapshotDirectory(key))
    // an upper directory is in layer form already
    const copy = (draft: string): Promise<{ entries: number; bytes: number }> =>
      cloneTree(this.#parts.native, upper, draft, 'layer', options.signal)
    return commitChanges(this.#parts, copy, describe, options.signal)
  }

  async remove(key: SnapshotKey): Promise<void> {
    const { native } = this.#parts
    let owner
    try {
      owner = await native.openDirectory(key.directory)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    try {
      await native.removeTree(owner.fd, basename(snapshotDirectory(key)))
    } finally {
      owner.close()
    }
  }

  /** All that a snapshot has is in its owner's directory. */
  async reconcile(): Promise<void> {}

  async collect(): Promise<void> {}

  async close(): Promise<void> {}

  #root(layers: readonly ChainLink[], upper: string | null): OverlayRoot {
    const lower = layers.map(({ directory }) => directory).reverse()
    if (upper === null && lower.length < 2) lower.push(emptyLayer)
    return { kind: 'overlay', layersRoot: this.#parts.paths.layers, lower, upper }
  }
}
