import type { Native, NativeFd } from '../../native/types.ts'
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
    snapshotter.read(key, layers, async (directories) => {
      const opened: NativeFd[] = []
      try {
        for (const path of directories) opened.push(await native.openDirectory(path))
        signal.throwIfAborted()
        const fds = opened.map(({ fd }) => fd)
        const { done, abort } = native.packTree(fds, to, { gzip: false, layer: false, exclude: [] })
        signal.addEventListener('abort', abort)
        try {
          await done
        } catch (error) {
          signal.throwIfAborted()
          throw error
        } finally {
          signal.removeEventListener('abort', abort)
        }
      } finally {
        for (const each of opened) each.close()
      }
    }),
  )
}
