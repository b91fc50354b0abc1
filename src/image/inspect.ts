import type { Digest } from './digest.ts'
import { JsonCursor } from './json.ts'
import { configSizeMax, type Descriptor } from './manifest.ts'
import { formatPlatform } from './platform.ts'
import type { Image } from './snapshot.ts'
import type { ImageStore } from './store.ts'

/** Steps of a build: several to a layer, most of them empty. */
const historyMax = 16_384
const textMax = 1 << 20

/** One step of an image's making: image-spec config.md, "history". Absent properties are empty. */
export interface HistoryEntry {
  /** RFC 3339. */
  readonly created: string
  readonly createdBy: string
  readonly author: string
  readonly comment: string
  /** Position of the layer that it made; null for one that made none. */
  readonly layer: number | null
}

export interface ImageLayer extends Descriptor {
  /** Digest of the layer uncompressed. */
  readonly diffId: Digest
}

/** All that there is to say about an image; what its builder has written is shown, and believed by nobody. */
export interface ImageDetails {
  readonly image: Image
  /** Digests that its names stand for: manifests, or indexes of manifests. */
  readonly roots: readonly Digest[]
  /** Of its manifest. */
  readonly mediaType: string
  readonly platform: string
  readonly author: string
  /** Base first. */
  readonly layers: readonly ImageLayer[]
  /** Oldest first. */
  readonly history: readonly HistoryEntry[]
}

/** @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_IMAGE_INVALID */
export async function inspectImage(store: ImageStore, id: Digest): Promise<ImageDetails> {
  const { image, manifest } = store.require(id)
  const { config } = image
  const what = `image ${id}`
  const root = JsonCursor.parse(await store.blobs.read(id, configSizeMax, what), what, configSizeMax)
  return {
    image,
    roots: [...store.catalog.rootsOf(id)],
    mediaType: manifest.mediaType,
    platform: formatPlatform(config.platform),
    author: root.get('author')?.string(textMax) ?? '',
    layers: manifest.layers.map(({ digest, mediaType, size }, index) => {
      const diffId = config.diffIds[index]
      if (diffId === undefined) throw root.invalid('names fewer layers than the manifest')
      return { digest, diffId, mediaType, size }
    }),
    history: historyOf(root, manifest.layers.length),
  }
}

function historyOf(root: JsonCursor, layers: number): HistoryEntry[] {
  let next = 0
  return (root.get('history')?.items(historyMax) ?? []).map((entry) => {
    const text = (key: string): string => entry.get(key)?.string(textMax) ?? ''
    const made = entry.get('empty_layer')?.boolean() !== true && next < layers
    return {
      created: text('created'),
      createdBy: text('created_by'),
      author: text('author'),
      comment: text('comment'),
      layer: made ? next++ : null,
    }
  })
}
