import { CaissonError, isCaissonError } from '../errors.ts'
import type { BlobStore } from './blobs.ts'
import { layerChain } from './chain.ts'
import { imageUser, parseImageConfig, type ImageConfig } from './config.ts'
import { parseDigest, type Digest } from './digest.ts'
import type { RootEntry } from './index-file.ts'
import { JsonCursor } from './json.ts'
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
import { parseReference, storeName } from './reference.ts'
import { classifyName, ImageSnapshot, type Image } from './snapshot.ts'

/** An index may point to an index; deeper nesting has no use. */
export const indexDepthMax = 3
const layersMax = 4096

/** What the store holds of one image root. */
interface LoadedImage {
  manifest: ImageManifest
  manifestDigest: Digest
  config: ImageConfig
  size: number
  /** Root, indexes on the way, manifest, config and layers. */
  blobs: ReadonlySet<Digest>
  layers: readonly string[]
}

/** An image, while the entries that name it are gathered. */
interface Draft {
  image: LoadedImage
  tags: string[]
  digests: string[]
  roots: Set<Digest>
  blobs: Set<Digest>
}

/** Everything that index.json keeps alive, and what it means. */
export interface Catalog {
  readonly entries: readonly RootEntry[]
  readonly snapshot: ImageSnapshot
  readonly blobs: ReadonlySet<Digest>
  /** Names of layer directories. */
  readonly layers: ReadonlySet<string>
  manifestOf(id: Digest): ImageManifest | null
  /** Of the document that `manifestOf` is read from. */
  manifestDigestOf(id: Digest): Digest | null
  /** What the image is made of: roots, indexes on the way, manifest, config and layers. */
  blobsOf(id: Digest): ReadonlySet<Digest>
  /** Digests of the entries that are this image. */
  rootsOf(id: Digest): ReadonlySet<Digest>
}

/** Builds catalogs; content never changes under its digest, so what was read once is kept. */
export class CatalogReader {
  readonly #blobs: BlobStore
  readonly #logger: ImageLogger
  #pinned: readonly string[] = []
  #loaded = new Map<Digest, LoadedImage>()

  /** @param pinned names of images that are never collected: whole, or beginnings that end with `*` */
  constructor(blobs: BlobStore, logger: ImageLogger, pinned: readonly string[] = []) {
    this.#blobs = blobs
    this.#logger = logger
    this.pin(pinned)
  }

  /** From the next `read` on. @throws CaissonError ERR_IMAGE_REFERENCE; nothing has changed then */
  pin(names: readonly string[]): void {
    this.#pinned = names.map((pin) => (pin.endsWith('*') ? pin : storeName(parseReference(pin))))
  }

  /**
   * An entry whose content is wrong is left out with a warning: one damaged image must not hide the others. A disk that cannot
   * be read fails the whole: what is not known to be garbage must not be collected.
   */
  async read(entries: readonly RootEntry[]): Promise<Catalog> {
    const loaded = new Map<Digest, LoadedImage>()
    const blobs = new Set<Digest>()
    const layers = new Set<string>()
    const drafts = new Map<Digest, Draft>()
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
      const draft = drafts.get(id) ?? { image, tags: [], digests: [], roots: new Set(), blobs: new Set() }
      drafts.set(id, draft)
      draft.roots.add(entry.digest)
      for (const digest of image.blobs) draft.blobs.add(digest)
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
        pinned: [...tags, ...digests].some((name) => this.#isPinned(name)),
        config: image.config,
      }),
    )
    return {
      entries,
      snapshot: new ImageSnapshot(images),
      blobs,
      layers,
      manifestOf: (id) => drafts.get(id)?.image.manifest ?? null,
      manifestDigestOf: (id) => drafts.get(id)?.image.manifestDigest ?? null,
      blobsOf: (id) => drafts.get(id)?.blobs ?? new Set(),
      rootsOf: (id) => drafts.get(id)?.roots ?? new Set(),
    }
  }

  #isPinned(name: string): boolean {
    return this.#pinned.some((pin) => (pin.endsWith('*') ? name.startsWith(pin.slice(0, -1)) : name === pin))
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
        for (const entry of document.manifests)
          if (entry.digest !== descriptor.digest) await this.#noteOther(entry, note)
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
        manifestDigest: descriptor.digest,
        config,
        size,
        blobs,
        layers: layerChain(config.diffIds).map(({ directory }) => directory),
      }
    }
    throw nestedTooDeep(what)
  }

  /** An entry of an index that is not for this machine: what of it is here (another tool may have put it there) stays. */
  async #noteOther(entry: Descriptor, note: (digest: Digest) => void): Promise<void> {
    note(entry.digest)
    const what = `manifest ${entry.digest}`
    try {
      const data = await this.#blobs.find(entry.digest, manifestSizeMax, what)
      if (data === null) return
      const document = JsonCursor.parse(data, what, manifestSizeMax)
      const parts = [document.get('config'), ...(document.get('layers')?.items(layersMax) ?? [])]
      for (const part of parts)
        if (part !== undefined) note(parseDigest(part.require('digest').string(255), part.where))
    } catch (error) {
      if (!isCaissonError(error)) throw error
      this.#logger.debug({ digest: entry.digest, err: error }, 'a manifest for another machine cannot be read')
    }
  }
}

export function nestedTooDeep(what: string): CaissonError {
  return new CaissonError('ERR_IMAGE_INVALID', `${what}: its indexes are nested more than ${indexDepthMax} deep`)
}
