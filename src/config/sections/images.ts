import { snapshotterNames } from '../../image/snapshot/snapshotter.ts'
import { boolean, integer, key, listOf, oneOf, text } from '../schema.ts'

/** `[images]`: which stay, and how root file systems come from layers (docs/images.md, "Snapshotters"). */
export const images = {
  /** Names of images that no prune takes and that a kubelet is told to leave: whole, or beginnings that end with `*`. */
  pinned: key(listOf(text(/^[^*\s]+\*?$/, 'a name, or the beginning of names with "*" after it')), []),
  /** What new containers' root file systems are made by, and pulls unpack for; containers that are there keep their own. */
  snapshotter: key(oneOf(...snapshotterNames), 'overlay'),
  /** MiB that a container may write to its root file system, and the most that one may ask for; 0: no bound. */
  rootfsSize: key(integer(0, 2 ** 30), 0),
  /** Nothing that containers write to an overlay is synced, fsync(2) included; after a crash of the host it is void. */
  overlayVolatile: key(boolean, false),
}
