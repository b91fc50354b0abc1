import { CaissonError } from '../errors.ts'
import type { Digest } from './digest.ts'
import { rootOf } from './push-names.ts'
import { parseReference, repositoryName, storeName } from './reference.ts'
import { classifyName, type Image } from './snapshot.ts'
import type { ImageStore } from './store.ts'

/** What a removal by name has done. */
export interface Untagged {
  /** Names that are gone. */
  readonly names: readonly string[]
  /** The image, when it has gone with its last name. */
  readonly removed: Digest | null
}

/** A name that an image gets by hand. @throws CaissonError ERR_IMAGE_REFERENCE */
export function newName(text: string): string {
  const reference = parseReference(text)
  if (reference.digest === null) return storeName(reference)
  throw new CaissonError('ERR_IMAGE_REFERENCE', `"${text}": an image is named by a tag, not by a digest`)
}

/** Gives an image another name; one that another image had moves. @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_IMAGE_REFERENCE */
export async function tagImage(store: ImageStore, text: string, name: string): Promise<void> {
  const wanted = newName(name)
  const { root } = rootOf(store.catalog, text)
  if (await store.commit([{ name: wanted, root }])) await store.collect()
}

/**
 * Takes away one name of an image, as `docker rmi` does: with the last tag go the digests of its repository, and with the last name
 * the image. An id stands for all its names. A container that was made from it keeps what it needs.
 *
 * @throws CaissonError ERR_IMAGE_NOT_FOUND
 */
export function untagImage(store: ImageStore, text: string): Promise<Untagged> {
  return store.drop((catalog) => {
    const image = catalog.snapshot.require(text)
    const roots = catalog.rootsOf(image.id)
    const own = catalog.entries.filter(({ digest }) => roots.has(digest))
    const named = nameOf(image, text)
    const gone = new Set(named === null ? own : own.filter(({ name }) => name === named))
    if (named !== null && image.repoTags.length === 1 && named === image.repoTags[0]) {
      const repository = repositoryName(parseReference(named))
      for (const entry of own) if (classifyName(entry.name)?.repository === repository) gone.add(entry)
    }
    // what has no names but such that other tools use is not worth keeping
    const left = own.filter((entry) => !gone.has(entry))
    if (left.every(({ name }) => classifyName(name) === null)) for (const entry of left) gone.add(entry)
    const names = [...gone].map(({ name }) => name).filter((name) => name !== '')
    return { gone, result: { names, removed: gone.size === own.length ? image.id : null } }
  })
}

/** The one of its names that the text is; null when it is an id. */
function nameOf(image: Image, text: string): string | null {
  if (image.id === text || image.id === `sha256:${text}`) return null
  try {
    const name = storeName(parseReference(text))
    return image.repoTags.includes(name) || image.repoDigests.includes(name) ? name : null
  } catch {
    return null // not a name: it was found as a prefix of an id
  }
}
