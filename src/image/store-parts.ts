import { join } from 'node:path'

import type { Native } from '../native/types.ts'
import { BlobStore } from './blobs.ts'
import { CatalogReader } from './catalog.ts'
import { createLayout } from './index-file.ts'
import { LayerStore, type LayerNative } from './layers.ts'
import { Leases } from './leases.ts'
import { StoreLock, sweepLocks } from './lock.ts'
import type { ImageLogger } from './logger.ts'
import { ImagePaths } from './paths.ts'
import { thisProcess } from '../process-identity.ts'
import type { SnapshotNative } from './snapshot/directory.ts'
import { openSnapshotters, type SnapshotSettings } from './snapshot/open.ts'
import type { Snapshotters } from './snapshot/snapshotters.ts'
import { Trash } from './trash.ts'
import { Usage } from './usage.ts'
import { Workspace } from './workspace.ts'

export type StoreNative = LayerNative & SnapshotNative & Pick<Native, 'blobWriter' | 'packTree' | 'pipe' | 'recodeBlob'>

export interface StoreOptions {
  root: string
  native: StoreNative
  logger: ImageLogger
  /** Leases of containers belong to it; instances share the store. */
  instance: string
  snapshots?: SnapshotSettings
  /**
   * Directory names of layers that the records of containers list, of every instance that shares the root: what they hold stays,
   * also when the store's own metadata is lost. Default: none.
   */
  recordedLayers?: () => Promise<ReadonlySet<string>>
  /** Names of images that are never collected: whole, or beginnings that end with `*`. */
  pinned?: readonly string[]
}

/** What a store consists of. */
export interface StoreParts {
  readonly native: StoreNative
  readonly logger: ImageLogger
  readonly paths: ImagePaths
  readonly workspace: Workspace
  readonly usage: Usage
  readonly trash: Trash
  readonly lock: StoreLock
  readonly leases: Leases
  readonly blobs: BlobStore
  readonly reader: CatalogReader
  readonly layers: LayerStore
  readonly snapshotters: Snapshotters
  readonly recordedLayers: () => Promise<ReadonlySet<string>>
}

/** Makes the directories that are missing, and sweeps what processes that are gone have left. */
export async function openParts(options: StoreOptions): Promise<StoreParts> {
  const { native, logger, instance, pinned = [], recordedLayers = () => Promise.resolve(new Set<string>()) } = options
  const paths = new ImagePaths(options.root)
  await paths.create()
  await createLayout(paths)
  const self = await thisProcess()
  const usage = new Usage()
  const workspace = new Workspace(paths, self)
  const trash = new Trash(native, paths)
  await workspace.sweep(trash)
  await sweepLocks(native, paths.locks)
  const blobs = new BlobStore({ native, paths, workspace, usage })
  const reader = new CatalogReader(blobs, logger, pinned)
  const layers = new LayerStore({ native, paths, workspace, usage })
  const snapshotters = await openSnapshotters({ native, paths, layers, workspace }, options.snapshots)
  const lock = new StoreLock(native, join(paths.locks, 'store'))
  const leases = new Leases(paths, workspace, self, instance)
  return {
    ...{ native, logger, paths, workspace, usage, trash, lock, leases },
    ...{ blobs, reader, layers, snapshotters, recordedLayers },
  }
}
