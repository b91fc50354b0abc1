import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

import { isPresent } from '../../files.ts'
import type { TreeStats } from '../../native/types.ts'
import type { ChainLink } from '../chain.ts'
import { withLayerTrees } from '../layer-trees.ts'
import type { LayerStore } from '../layers.ts'
import type { LayerDescriptor } from '../manifest.ts'
import { mountedImage } from '../mounted.ts'
import type { ImagePaths } from '../paths.ts'
import type { Workspace } from '../workspace.ts'
import { CommittingSnapshotter, withChanges } from './commit.ts'
import { removeDirectory, snapshotDirectory, UsageCache, type SnapshotNative } from './directory.ts'
import type {
  Changes,
  LayerDirectory,
  LayerOptions,
  OverlayRoot,
  PrepareOptions,
  SnapshotKey,
  Snapshotter,
  SnapshotterName,
  SnapshotUsage,
} from './snapshotter.ts'
import { cloneTree } from './trees.ts'
import { imageOf, makeUpper, type Upper } from './upper.ts'

export interface OverlayParts {
  native: SnapshotNative
  paths: ImagePaths
  layers: LayerStore
  workspace: Workspace
  /** Nothing that a container writes is synced; after a crash of the host its root file system is void. */
  volatile: boolean
}

/** A lower that hides nothing: overlayfs wants two of them where there is no upper directory. */
const emptyLayer = 'empty'

/**
 * overlayfs over directories (how it is mounted, and with which options: core/stage/root.cc): each layer is unpacked once
 * (`layers/fs/<directory>`), or is there as an index that is mounted over its directory; and shared by all containers. A snapshot is
 * `rootfs/{upper,work}` in its owner's directory.
 */
export class OverlaySnapshotter extends CommittingSnapshotter implements Snapshotter {
  readonly name: SnapshotterName = 'overlay'
  readonly #parts: OverlayParts
  readonly #usage: UsageCache

  constructor(parts: OverlayParts) {
    super(parts)
    this.#parts = parts
    this.#usage = new UsageCache(parts.native)
  }

  unpack(link: ChainLink, blob: LayerDescriptor, signal: AbortSignal, options: LayerOptions = {}): Promise<boolean> {
    return this.#parts.layers.unpack(link, blob, signal, options)
  }

  async prepare(key: SnapshotKey, layers: readonly ChainLink[], options: PrepareOptions = {}): Promise<OverlayRoot> {
    const { native, paths } = this.#parts
    const topmost = layers.at(-1)?.directory ?? emptyLayer
    try {
      const root = await stat(join(paths.layers, topmost))
      return this.#root(layers, await makeUpper(native, key, root, options.size))
    } catch (error) {
      await this.remove(key)
      throw error
    }
  }

  async view(_key: SnapshotKey, layers: readonly ChainLink[]): Promise<OverlayRoot> {
    await mkdir(join(this.#parts.paths.layers, emptyLayer), { mode: 0o755, recursive: true })
    return this.#root(layers, null)
  }

  async mount(key: SnapshotKey, layers: readonly ChainLink[]): Promise<OverlayRoot> {
    const directory = snapshotDirectory(key)
    if (!(await isPresent(directory))) return this.view(key, layers)
    const upperImage = await isPresent(imageOf(key))
    return this.#root(layers, { upper: upperImage ? imageOf(key) : directory, upperImage })
  }

  changes<T>(
    key: SnapshotKey,
    _layers: readonly ChainLink[],
    work: (changes: Changes) => Promise<T>,
    options: { signal?: AbortSignal } = {},
  ): Promise<T> {
    // an upper directory is in layer form already
    const copy = async (draft: string): Promise<TreeStats> => {
      const upper = join(snapshotDirectory(key), 'upper')
      if (!(await isPresent(imageOf(key)))) return cloneTree(this.#parts.native, upper, draft, 'layer', options.signal)
      return mountedImage(this.#parts.native, imageOf(key), (mounted) =>
        cloneTree(this.#parts.native, join(mounted, 'upper'), draft, 'layer', options.signal),
      )
    }
    return withChanges(this.#parts, copy, work)
  }

  async read<T>(
    key: SnapshotKey,
    layers: readonly LayerDirectory[],
    work: (directories: readonly string[]) => Promise<T>,
  ): Promise<T> {
    const upper = join(snapshotDirectory(key), 'upper')
    return withLayerTrees(this.#parts, layers.toReversed(), async (lowers) => {
      if (!(await isPresent(imageOf(key)))) return work([upper, ...lowers])
      return mountedImage(this.#parts.native, imageOf(key), (mounted) => work([join(mounted, 'upper'), ...lowers]))
    })
  }

  usage(key: SnapshotKey): Promise<SnapshotUsage> {
    return this.#usage.of(key)
  }

  async remove(key: SnapshotKey): Promise<void> {
    this.#usage.forget(key)
    await removeDirectory(this.#parts.native, key)
  }

  /** All that a snapshot has is in its owner's directory. */
  async reconcile(): Promise<void> {}

  async collect(): Promise<void> {}

  async close(): Promise<void> {}

  #root(layers: readonly ChainLink[], upper: Upper | null): OverlayRoot {
    const lower = this.#parts.layers
      .visible(layers)
      .map(({ directory }) => directory)
      .reverse()
    if (upper === null && lower.length < 2) lower.push(emptyLayer)
    const erofs = lower.flatMap((name, index) => (this.#parts.layers.kindOf(name) === 'erofs' ? [index] : []))
    return {
      kind: 'overlay',
      layersRoot: this.#parts.paths.layers,
      lower,
      ...(erofs.length > 0 && { erofs }),
      upper: upper?.upper ?? null,
      ...(upper?.upperImage === true && { upperImage: true }),
      ...(this.#parts.volatile && upper !== null && { volatile: true }),
    }
  }
}
