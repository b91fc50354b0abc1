import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { isPresent } from '../../files.ts'
import type { ChainLink } from '../chain.ts'
import { withLayerTrees } from '../layer-trees.ts'
import type { LayerStore } from '../layers.ts'
import type { LayerDescriptor } from '../manifest.ts'
import type { ImagePaths } from '../paths.ts'
import type { Workspace } from '../workspace.ts'
import { CommittingSnapshotter, withChanges } from './commit.ts'
import { limitDirectory, removeDirectory, snapshotDirectory, UsageCache, type SnapshotNative } from './directory.ts'
import type {
  Changes,
  LayerDirectory,
  LayerOptions,
  DirectoryRoot,
  PrepareOptions,
  SnapshotKey,
  Snapshotter,
  SnapshotUsage,
} from './snapshotter.ts'
import { cloneTree, diffTree } from './trees.ts'

export interface NativeParts {
  native: SnapshotNative
  paths: ImagePaths
  layers: LayerStore
  workspace: Workspace
}

const marker = 'made'

/**
 * A plain tree for each snapshot, put together from the unpacked layers (`layers/fs/<directory>`): shared block by block where the
 * file system can (btrfs, xfs), copied where it cannot. A snapshot is `rootfs/tree` in its owner's directory, a view `rootfs/view`.
 */
export class NativeSnapshotter extends CommittingSnapshotter implements Snapshotter {
  readonly name = 'native'
  readonly #parts: NativeParts
  readonly #usage: UsageCache

  constructor(parts: NativeParts) {
    super(parts)
    this.#parts = parts
    this.#usage = new UsageCache(parts.native)
  }

  unpack(link: ChainLink, blob: LayerDescriptor, signal: AbortSignal, options: LayerOptions = {}): Promise<boolean> {
    return this.#parts.layers.unpack(link, blob, signal, options)
  }

  async prepare(key: SnapshotKey, layers: readonly ChainLink[], options: PrepareOptions = {}): Promise<DirectoryRoot> {
    return this.#make(key, layers, 'tree', options)
  }

  async view(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    options: { signal?: AbortSignal } = {},
  ): Promise<DirectoryRoot> {
    return this.#make(key, layers, 'view', options)
  }

  async #make(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    name: 'tree' | 'view',
    { size = 0, signal }: PrepareOptions,
  ): Promise<DirectoryRoot> {
    const { native } = this.#parts
    const directory = snapshotDirectory(key)
    try {
      await mkdir(directory, { mode: 0o700 })
      if (size > 0 && !(await limitDirectory(native, directory, size))) throw noQuota(directory)
      const tree = join(directory, name)
      await mkdir(tree, { mode: 0o755 })
      for (const layer of this.#parts.layers.visible(layers)) {
        await withLayerTrees(this.#parts, [layer], async ([from = '']) =>
          cloneTree(native, from, tree, 'apply', signal),
        )
      }
      // its time says since when what differs is the container's doing
      await writeFile(join(directory, marker), '')
      return rootOf(tree, name)
    } catch (error) {
      await this.remove(key)
      throw error
    }
  }

  async mount(key: SnapshotKey): Promise<DirectoryRoot> {
    const tree = join(snapshotDirectory(key), 'tree')
    return (await isPresent(tree)) ? rootOf(tree, 'tree') : rootOf(join(snapshotDirectory(key), 'view'), 'view')
  }

  async changes<T>(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    work: (changes: Changes) => Promise<T>,
    options: { signal?: AbortSignal } = {},
  ): Promise<T> {
    const { native } = this.#parts
    const directory = snapshotDirectory(key)
    const { mtimeMs } = await stat(join(directory, marker))
    const copy = (draft: string): ReturnType<typeof diffTree> =>
      withLayerTrees(this.#parts, this.#parts.layers.visible(layers).toReversed(), (lowers) =>
        diffTree(native, { lowers, upper: join(directory, 'tree'), to: draft, since: mtimeMs }, options.signal),
      )
    return withChanges(this.#parts, copy, work)
  }

  read<T>(
    key: SnapshotKey,
    _layers: readonly LayerDirectory[],
    work: (directories: readonly string[]) => Promise<T>,
  ): Promise<T> {
    return work([join(snapshotDirectory(key), 'tree')])
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
}

function rootOf(path: string, name: 'tree' | 'view'): DirectoryRoot {
  return { kind: 'directory', path, readonly: name === 'view' }
}

function noQuota(directory: string): CaissonError {
  return new CaissonError(
    'ERR_FAILED_PRECONDITION',
    `a size for the root file system needs project quotas on the file system of ${directory} (ext4: tune2fs -O project -Q prjquota, mount -o prjquota), or the snapshotter "overlay"`,
  )
}
