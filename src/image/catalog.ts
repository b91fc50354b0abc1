import { CaissonError, isCaissonError } from '../errors.ts'
import type { BlobStore } from './blobs.ts'
import { layerChain } from './chain.ts'
import { imageUser, parseImageConfig, type ImageConfig } from './config.ts'
import type { Digest } from './digest.ts'
import type { RootEntry } from './index-file.ts'
import type { ImageLogger } from './logger.ts'
import {
  choosePlatform,
  configSizeMax,
  manifestSizeMax,
  parseManifest,
  type Descriptor,
  type ImageManifest,
} from './manifest.ts'
import { hostPlatform } from './platform.ts'
import { classifyName, ImageSnapshot, type Image } from './snapshot.ts'

/** An index may point to an index; deeper nesting has no use. */
export const indexDepthMax = 3

/** What the store holds of one image root. */
interface LoadedImage {
  manifest: ImageManifest
  config: ImageConfig
  size: number
  /** Root, indexes on the way, manifest, config and layers. */
  blobs: ReadonlySet<Digest>
  layers: readonly string[]
}

/** Everything that index.json keeps alive, and what it means. */
export interface Catalog {
  readonly entries: readonly RootEntry[]
  readonly snapshot: ImageSnapshot
  readonly blobs: ReadonlySet<Digest>
  /** Names of layer directories. */
  readonly layers: ReadonlySet<string>
  manifestOf(id: Digest): ImageManifest | null
  /** Digests of the entries that are this image. */
  rootsOf(id: Digest): ReadonlySet<Digest>
}

/** Builds catalogs; content never changes under its digest, so what was read once is kept. */
export class CatalogReader {
  readonly #blobs: BlobStore
  readonly #logger: ImageLogger
  #loaded = new Map<Digest, LoadedImage>()

  constructor(blobs: BlobStore, logger: ImageLogger) {
    this.#blobs = blobs
    this.#logger = logger
  }

  /**
   * An entry whose content is wrong is left out with a warning: one damaged image must not hide the others. A disk that cannot
   * be read fails the whole: what is not known to be garbage must not be collected.
   */
  async read(entries: readonly RootEntry[]): Promise<Catalog> {
    const loaded = new Map<Digest, LoadedImage>()
    const blobs = new Set<Digest>()
    const layers = new Set<string>()
    const drafts = new Map<Digest, { image: LoadedImage; tags: string[]; digests: string[]; roots: Set<Digest> }>()
    for (const entry of entries) {
      blobs.add(entry.digest)
      let image = loaded.get(entry.digest) ?? this.#loaded.get(entry.digest)
      try {
        image ??= await this.#load(entry, blobs)
      } catch (error) {
        if (!isCaissonError(error)) throw error
        this.#logger.warn(
          { image: entry.name, digest: entry.digest, err: error },
          'an image of the store cannot be read',
        )
        continue
      }
      loaded.set(entry.digest, image)
      for (const digest of image.blobs) blobs.add(digest)
      for (const layer of image.layers) layers.add(layer)
      const id = image.manifest.config.digest
      const draft = drafts.get(id) ?? { image, tags: [], digests: [], roots: new Set<Digest>() }
      drafts.set(id, draft)
      draft.roots.add(entry.digest)
      const meaning = classifyName(entry.name)
      if (meaning !== null) (meaning.kind === 'tag' ? draft.tags : draft.digests).push(entry.name)
    }
    this.#loaded = loaded
    const images = [...drafts].map(([id, { image, tags, digests }]) =>
      Object.freeze<Image>({
        id,
        repoTags: tags,
        repoDigests: digests,
        size: image.size,
        ...imageUser(image.config.user),
        pinned: false,
        config: image.config,
      }),
    )
    return {
      entries,
      snapshot: new ImageSnapshot(images),
      blobs,
      layers,
      manifestOf: (id) => drafts.get(id)?.image.manifest ?? null,
      rootsOf: (id) => drafts.get(id)?.roots ?? new Set(),
    }
  }

  /** @param seen gets every blob that is known to belong to it, also when loading fails */
  async #load(root: RootEntry, seen: Set<Digest>): Promise<LoadedImage> {
    const blobs = new Set<Digest>()
    const note = (digest: Digest): void => {
      blobs.add(digest)
      seen.add(digest)
    }
    const what = `image ${root.name || root.digest}`
    let descriptor: Descriptor = root
    for (let depth = 0; depth <= indexDepthMax; depth++) {
      note(descriptor.digest)
      const data = await this.#blobs.read(descriptor.digest, manifestSizeMax, what)
      const document = parseManifest(data, descriptor.mediaType, what)
      if (document.kind === 'index') {
        descriptor = choosePlatform(document, hostPlatform(), what)
        continue
      }
      note(document.config.digest)
      let size = data.length + document.config.size
      for (const layer of document.layers) {
        note(layer.digest)
        size += layer.size
      }
      const config = parseImageConfig(await this.#blobs.read(document.config.digest, configSizeMax, what), what)
      return {
        manifest: document,
        config,
        size,
        blobs,
        layers: layerChain(config.diffIds).map(({ directory }) => directory),
      }
    }
    throw nestedTooDeep(what)
  }
}

export function nestedTooDeep(what: string): CaissonError {
  return new CaissonError('ERR_IMAGE_INVALID', `${what}: its indexes are nested more than ${indexDepthMax} deep`)
}
