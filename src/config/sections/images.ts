import { parseReference } from '../../image/reference.ts'
import { snapshotterNames } from '../../image/snapshot/snapshotter.ts'
import { boolean, integer, key, listOf, oneOf, type Kind } from '../schema.ts'

const pin: Kind<string> = {
  allowed: 'a name of an image, or the beginning of names with "*" after it',
  parse(value) {
    if (typeof value !== 'string' || !/^[^*\s]+\*?$/.test(value)) return undefined
    try {
      if (!value.endsWith('*')) parseReference(value)
      return value
    } catch {
      return undefined // the caller says what is allowed
    }
  },
}

/** `[images]`: which stay, and how root file systems come from layers (docs/images.md, "Snapshotters"). */
export const images = {
  /** Names of images that no prune takes and that a kubelet is told to leave: whole, or beginnings that end with `*`. */
  pinned: key(listOf(pin), [], {
    reloads: true,
  }),
  /** What new containers' root file systems are made by, and pulls unpack for; containers that are there keep their own. */
  snapshotter: key(oneOf(...snapshotterNames), 'overlay'),
  /** MiB that a container may write to its root file system, and the most that one may ask for; 0: no bound. */
  rootfsSize: key(integer(0, 2 ** 30), 0, { reloads: true }),
  /** Nothing that containers write to an overlay is synced, fsync(2) included; after a crash of the host it is void. */
  overlayVolatile: key(boolean, false),
}
