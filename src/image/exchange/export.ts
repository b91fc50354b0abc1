import { withDirectories } from '../../files.ts'
import type { Native } from '../../native/types.ts'
import { taskEnd } from '../native-task.ts'
import type { LayerDirectory, SnapshotKey, Snapshotter } from '../snapshot/snapshotter.ts'
import { piped } from './native-blobs.ts'

export type ExportNative = Pick<Native, 'openDirectory' | 'packTree' | 'pipe'>

/**
 * The root file system of a container as a tar, as it is read: what its layers and its own changes make together, without what is
 * mounted into it.
 */
export function exportSnapshot(
  native: ExportNative,
  snapshotter: Snapshotter,
  key: SnapshotKey,
  layers: readonly LayerDirectory[],
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  return piped(native, (to) =>
    snapshotter.read(key, layers, (directories) =>
      withDirectories(native, directories, (opened) => {
        signal.throwIfAborted()
        const fds = opened.map(({ fd }) => fd)
        return taskEnd(native.packTree(fds, to, { gzip: false, layer: false, exclude: [] }), signal)
      }),
    ),
  )
}
