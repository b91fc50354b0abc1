import { join } from 'node:path'

import { CaissonError } from '../../errors.ts'
import { ErofsProbe } from '../layer-form.ts'
import type { LayerStore } from '../layers.ts'
import type { ImagePaths } from '../paths.ts'
import { thisProcess } from '../../process-identity.ts'
import type { Workspace } from '../workspace.ts'
import { DevmapperSnapshotter } from './devmapper.ts'
import { ErofsSnapshotter } from './erofs.ts'
import type { SnapshotNative } from './directory.ts'
import { NativeSnapshotter } from './native.ts'
import { OverlaySnapshotter } from './overlay.ts'
import type { Snapshotter, SnapshotterName } from './snapshotter.ts'
import { Snapshotters } from './snapshotters.ts'
import { ThinPool, type DevmapperSettings } from './thin-pool.ts'

export interface SnapshotSettings {
  /** What new containers' root file systems are made by, and pulls unpack for; default: overlay. */
  snapshotter?: SnapshotterName
  /** Overlay: nothing that a container writes is synced; default: false. */
  overlayVolatile?: boolean
  /** The thin pool; without it there is no devmapper. */
  devmapper?: DevmapperSettings
}

export interface SnapshotParts {
  native: SnapshotNative
  paths: ImagePaths
  layers: LayerStore
  workspace: Workspace
}

/** @throws CaissonError ERR_HOST_UNSUPPORTED when the chosen one is not set up on this host */
export async function openSnapshotters(parts: SnapshotParts, settings: SnapshotSettings = {}): Promise<Snapshotters> {
  const volatile = settings.overlayVolatile ?? false
  const probe = new ErofsProbe(parts.native, parts.workspace)
  if (settings.snapshotter === 'erofs') await probe.block()
  const all: Snapshotter[] = [
    new OverlaySnapshotter({ ...parts, volatile }),
    new NativeSnapshotter(parts),
    new ErofsSnapshotter({ ...parts, volatile, probe }),
  ]
  if (settings.devmapper !== undefined) all.push(await openDevmapper(parts, settings.devmapper))
  return new Snapshotters(all, settings.snapshotter ?? 'overlay')
}

async function openDevmapper(parts: SnapshotParts, settings: DevmapperSettings): Promise<Snapshotter> {
  const { native, paths } = parts
  const records = join(paths.root, 'layers', 'devmapper')
  const pool = new ThinPool(native, records, join(paths.locks, 'devmapper'), await thisProcess(), settings)
  try {
    await pool.open()
  } catch (error) {
    throw new CaissonError('ERR_HOST_UNSUPPORTED', `thin pool ${settings.pool}: ${(error as Error).message}`, {
      cause: error,
    })
  }
  return new DevmapperSnapshotter({ ...parts, pool })
}
