import type { LayerStore } from '../layers.ts'
import type { ImagePaths } from '../paths.ts'
import type { Workspace } from '../workspace.ts'
import type { SnapshotNative } from './directory.ts'
import { NativeSnapshotter } from './native.ts'
import { OverlaySnapshotter } from './overlay.ts'
import type { SnapshotterName } from './snapshotter.ts'
import { Snapshotters } from './snapshotters.ts'

export interface SnapshotSettings {
  /** What new containers' root file systems are made by, and pulls unpack for; default: overlay. */
  snapshotter?: SnapshotterName
  /** Overlay: nothing that a container writes is synced; default: false. */
  overlayVolatile?: boolean
}

export interface SnapshotParts {
  native: SnapshotNative
  paths: ImagePaths
  layers: LayerStore
  workspace: Workspace
}

/** @throws CaissonError ERR_HOST_UNSUPPORTED when the chosen one is not set up on this host */
export async function openSnapshotters(parts: SnapshotParts, settings: SnapshotSettings = {}): Promise<Snapshotters> {
  const all = [
    new OverlaySnapshotter({ ...parts, volatile: settings.overlayVolatile ?? false }),
    new NativeSnapshotter(parts),
  ]
  return new Snapshotters(all, settings.snapshotter ?? 'overlay')
}
