import type { Digest } from './digest.ts'
import type { Lease } from './leases.ts'
import { layerChain } from './chain.ts'
import type { Image } from './snapshot.ts'
import type { ImageStore } from './store.ts'

export interface Pruned {
  /** What was removed. */
  readonly images: readonly { readonly id: Digest; readonly names: readonly string[] }[]
  /** Bytes that are free again on disk. */
  readonly reclaimedBytes: number
}

/**
 * Removes images that no container uses: those without a tag, or all of them. Pinned ones stay. What interrupted pulls have left goes
 * in any case, and whatever else nothing needs.
 */
export async function pruneImages(store: ImageStore, options: { all: boolean }): Promise<Pruned> {
  const before = store.usage.info('').usedBytes
  const images = await store.drop((catalog, held) => {
    const chosen = catalog.snapshot.images.filter(
      (image) => !image.pinned && (options.all || image.repoTags.length === 0) && !isUsed(image, held),
    )
    const roots = new Set(chosen.flatMap(({ id }) => [...catalog.rootsOf(id)]))
    return {
      gone: new Set(catalog.entries.filter(({ digest }) => roots.has(digest))),
      result: chosen.map(({ id, repoTags, repoDigests }) => ({ id, names: [...repoTags, ...repoDigests] })),
    }
  })
  await store.forgetInterrupted()
  await store.collect()
  return { images, reclaimedBytes: Math.max(0, before - store.usage.info('').usedBytes) }
}

/** Whether a container was made from the image, as far as layers tell: images that share all of theirs count as one. */
function isUsed(image: Image, held: readonly Lease[]): boolean {
  const topmost = layerChain(image.config.diffIds).at(-1)?.directory
  return topmost !== undefined && held.some(({ kind, layers }) => kind === 'container' && layers.includes(topmost))
}
