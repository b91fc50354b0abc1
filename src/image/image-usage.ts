import { layerChain } from './chain.ts'
import type { Digest } from './digest.ts'
import type { ImageStore } from './store.ts'

/** What an image takes on disk: blobs and unpacked layers. */
export interface ImageUsage {
  readonly id: Digest
  /** Allocated bytes of all that it is made of. */
  readonly bytes: number
  /** The part of them that other images are made of as well. */
  readonly sharedBytes: number
  /** What its removal sets free, while no container uses it. */
  readonly uniqueBytes: number
}

/** From memory. */
export function imageUsage(store: ImageStore): ImageUsage[] {
  const { catalog, usage } = store
  const parts = catalog.snapshot.images.map(({ id, config }) => ({
    id,
    blobs: catalog.blobsOf(id),
    layers: new Set(layerChain(config.diffIds).map(({ directory }) => directory)),
  }))
  const holders = new Map<string, number>()
  for (const { blobs, layers } of parts) {
    for (const key of [...blobs, ...layers]) holders.set(key, (holders.get(key) ?? 0) + 1)
  }
  const shared = <K extends string>(keys: ReadonlySet<K>): K[] => [...keys].filter((key) => (holders.get(key) ?? 0) > 1)
  return parts.map(({ id, blobs, layers }) => {
    const bytes = usage.bytesOf(blobs, layers)
    const sharedBytes = usage.bytesOf(shared(blobs), shared(layers))
    return { id, bytes, sharedBytes, uniqueBytes: bytes - sharedBytes }
  })
}
