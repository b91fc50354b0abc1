import type { BlobStore } from './blobs.ts'
import type { Catalog } from './catalog.ts'
import type { Digest } from './digest.ts'
import type { LayerStore } from './layers.ts'
import type { Leases } from './leases.ts'
import type { Trash } from './trash.ts'

/** Of blobs, digests; of layers, names of directories. */
export interface Made {
  readonly blobs: ReadonlySet<Digest>
  readonly layers: ReadonlySet<string>
}

export interface CollectorParts {
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly leases: Leases
  readonly trash: Trash
  /** What the records of containers hold beside their leases. */
  readonly recordedLayers: () => Promise<ReadonlySet<string>>
}

/** Takes away what no name and no lease holds. */
export class Collector {
  readonly #parts: CollectorParts

  constructor(parts: CollectorParts) {
    this.#parts = parts
  }

  /** Under the store's lock. @param candidates what may go; default: all that nobody needs */
  async collect(catalog: Catalog, candidates?: Made): Promise<void> {
    const { blobs, layers, leases, trash, recordedLayers } = this.#parts
    const neededBlobs = new Set(catalog.blobs)
    const needed = new Set(catalog.layers)
    const mounted = new Set<string>()
    const pulled = new Set<Digest>()
    for (const lease of await leases.list()) {
      for (const digest of lease.blobs) {
        neededBlobs.add(digest)
        pulled.add(digest)
      }
      for (const directory of lease.layers) {
        needed.add(directory)
        if (lease.kind === 'container') mounted.add(directory)
      }
    }
    const chosen = candidates?.blobs
    for (const digest of chosen ?? (await blobs.list())) {
      if (!neededBlobs.has(digest)) await blobs.remove(digest, trash)
    }
    for (const digest of await blobs.partials()) {
      // an image's blob may have come by another way since its pull was killed: only a pull needs what it has begun
      if (!pulled.has(digest) && (chosen?.has(digest) ?? true)) await blobs.removePartial(digest)
    }
    await layers.collect({ needed, mounted }, trash, recordedLayers, candidates?.layers)
  }
}
