import { CaissonError } from '../errors.ts'
import type { ImageConfig } from './config.ts'
import { digestOfHex, hexOf, isDigest, type Digest } from './digest.ts'
import { parseReference, repositoryName, storeName, type Reference } from './reference.ts'

/** An image that is present: one entry per config, whatever number of names it has. */
export interface Image {
  /** Digest of the config: `sha256:…`. */
  readonly id: Digest
  /** `docker.io/library/busybox:latest`. */
  readonly repoTags: readonly string[]
  /** `docker.io/library/busybox@sha256:…`. */
  readonly repoDigests: readonly string[]
  /** Bytes of manifest, config and compressed layers. */
  readonly size: number
  /** The image's USER when it is a number. */
  readonly uid: number | null
  /** The image's USER when it is a name. */
  readonly username: string
  /** Kept whatever garbage collection says. */
  readonly pinned: boolean
  readonly config: ImageConfig
}

/** Shortest prefix of an id that is looked up. */
const prefixMin = 2

/** The images of one moment; never changed once made, so that every reader sees a whole. */
export class ImageSnapshot {
  readonly images: readonly Image[]
  readonly #byId = new Map<string, Image>()
  readonly #byName = new Map<string, Image>()
  /** Hex ids in order, for prefixes. */
  readonly #hexIds: readonly string[]

  constructor(images: readonly Image[]) {
    this.images = images
    for (const image of images) {
      this.#byId.set(image.id, image)
      for (const name of [...image.repoTags, ...image.repoDigests]) this.#byName.set(name, image)
    }
    this.#hexIds = images.map(({ id }) => hexOf(id)).sort()
  }

  /**
   * Looks an image up by id, name with tag or digest, name alone (`latest`), or unique prefix of an id, in this order.
   *
   * @throws CaissonError ERR_AMBIGUOUS_ID when a prefix fits several
   */
  find(text: string): Image | null {
    const id = isDigest(text) ? text : digestOfHex(text)
    const exact = this.#byId.get(id)
    if (exact !== undefined) return exact
    const reference = tryParse(text)
    if (reference !== null) {
      const named = this.#byName.get(storeName(reference))
      if (named !== undefined) return named
    }
    return this.#byPrefix(text.startsWith('sha256:') ? text.slice('sha256:'.length) : text, text)
  }

  /** As `find`. @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_AMBIGUOUS_ID */
  require(text: string): Image {
    const image = this.find(text)
    if (image !== null) return image
    throw new CaissonError('ERR_IMAGE_NOT_FOUND', `image "${text}" is not present`, { fields: { image: text } })
  }

  #byPrefix(prefix: string, text: string): Image | null {
    if (prefix.length < prefixMin || !/^[0-9a-f]{1,64}$/.test(prefix)) return null
    const fits = this.#hexIds.filter((hex) => hex.startsWith(prefix))
    if (fits.length > 1)
      throw new CaissonError('ERR_AMBIGUOUS_ID', `image id prefix "${text}" fits ${fits.length} images`)
    return fits[0] === undefined ? null : (this.#byId.get(digestOfHex(fits[0])) ?? null)
  }
}

/** Null for what is no name: it may be an id, or a prefix of one. */
export function tryParse(text: string): Reference | null {
  try {
    return parseReference(text)
  } catch {
    // not a name: it may still be a prefix of an id, and if not, there is no such image
    return null
  }
}

/** What a name in index.json means: null for one that is not a normalised image name (`latest`, as other tools write it). */
export function classifyName(name: string): { kind: 'tag' | 'digest'; repository: string } | null {
  const reference = name === '' ? null : tryParse(name)
  if (reference === null || storeName(reference) !== name) return null
  return { kind: reference.digest === null ? 'tag' : 'digest', repository: repositoryName(reference) }
}
