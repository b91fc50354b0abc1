import { CaissonError } from '../errors.ts'
import type { Catalog } from './catalog.ts'
import type { Digest } from './digest.ts'
import type { Descriptor } from './manifest.ts'
import { isManifestType } from './media-types.ts'
import { parseReference, storeName, type Reference } from './reference.ts'
import { tryParse } from './snapshot.ts'

/** Repositories that a registry is asked to take a blob over from, before it is sent. */
const mountCandidatesMax = 3

/**
 * What a name stands for, or the manifest of the image with this id; and whether the text is one of the image's names.
 *
 * @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_AMBIGUOUS_ID
 */
export function rootOf(catalog: Catalog, text: string): { root: Descriptor; named: boolean } {
  const image = catalog.snapshot.find(text)
  const roots = image === null ? new Set<Digest>() : catalog.rootsOf(image.id)
  const entries = catalog.entries.filter(({ digest }) => roots.has(digest))
  const reference = tryParse(text)
  const named = reference === null ? undefined : entries.find(({ name }) => name === storeName(reference))
  const root = named ?? entries.find(({ mediaType }) => isManifestType(mediaType)) ?? entries[0]
  if (root === undefined) {
    throw new CaissonError('ERR_IMAGE_NOT_FOUND', `image "${text}" is not present`, { fields: { image: text } })
  }
  const { mediaType, digest, size } = root
  return { root: { mediaType, digest, size }, named: named !== undefined }
}

/** Other repositories of the reference's registry that images with this blob are named after. */
export function repositoriesOf(catalog: Catalog, blob: Digest, reference: Reference): string[] {
  const found = new Set<string>()
  for (const image of catalog.snapshot.images) {
    const manifest = catalog.manifestOf(image.id)
    if (image.id !== blob && !(manifest?.layers.some(({ digest }) => digest === blob) ?? false)) continue
    for (const name of [...image.repoDigests, ...image.repoTags]) {
      const { domain, path } = parseReference(name)
      if (domain === reference.domain && path !== reference.path) found.add(path)
    }
  }
  return [...found].slice(0, mountCandidatesMax)
}
