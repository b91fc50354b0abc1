import { randomBytes } from 'node:crypto'
import { CaissonError } from '../../errors.ts'
import { indexDepthMax, nestedTooDeep } from '../catalog.ts'
import { closureOf, type ClosureManifest } from '../closure.ts'
import { parseImageConfig, requirePlatform } from '../config.ts'
import { hexOf, type Digest } from '../digest.ts'
import { choosePlatform, configSizeMax, manifestSizeMax, parseManifest, type Descriptor } from '../manifest.ts'
import { isIndexType, mediaTypes } from '../media-types.ts'
import { hostPlatform, type Platform } from '../platform.ts'
import { rootOf } from '../push-names.ts'
import { parseReference, storeName } from '../reference.ts'
import type { ImageStore } from '../store.ts'
import { blobFile, smallFile } from './archive-files.ts'
import { archiveEnd, entryHeader } from './archive-format.ts'
import { writeDockerArchive, type DockerSaveNative } from './docker-archive.ts'
import { annotationsFor } from './names.ts'

export const archiveFormats = ['oci-archive', 'docker-archive'] as const
export type ArchiveFormat = (typeof archiveFormats)[number]

export interface SaveOptions {
  /** Default `oci-archive`. */
  format?: ArchiveFormat
  /** Of an index: the manifest for this platform alone. */
  platform?: Platform
  signal?: AbortSignal
}

/** An image as it goes into an archive. */
export interface SavedImage {
  readonly root: Descriptor
  /** Null: it was named by its id. */
  readonly name: string | null
}

/**
 * Images of the store as one archive, which comes as it is read: the same images are the same bytes, whenever and wherever. What it
 * consists of is held until the stream has ended.
 *
 * @param texts names, ids, or unique prefixes of ids
 * @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_AMBIGUOUS_ID, ERR_IMAGE_PLATFORM, ERR_IMAGE_INVALID when part of one is not here
 */
export async function* saveImages(
  { store, native }: { store: ImageStore; native: DockerSaveNative },
  texts: readonly string[],
  options: SaveOptions & { signal: AbortSignal },
): AsyncGenerator<Buffer, void, undefined> {
  const { format = 'oci-archive', platform = null, signal } = options
  if (texts.length === 0) throw new CaissonError('ERR_INVALID_ARGUMENT', 'no image to save')
  const images: SavedImage[] = []
  for (const text of texts) {
    const image = await choose(store, text, { platform, single: format === 'docker-archive' })
    if (!images.some(({ root, name }) => root.digest === image.root.digest && name === image.name)) images.push(image)
  }
  const parts = await partsOf(store, images)
  const hold = {
    owner: randomBytes(16).toString('hex'),
    layers: [],
    blobs: [...parts.manifests, ...parts.blobs].map(({ digest }) => digest),
  }
  yield* whileHeld(store, hold, signal, async function* () {
    for (const blob of parts.blobs) {
      if (!(await store.blobs.has(blob))) throw notHere(blob.digest)
    }
    if (format === 'docker-archive') yield* writeDockerArchive(store, native, images, signal)
    else yield* writeOciArchive(store, images, [...parts.manifests, ...parts.blobs])
  })
}

/** What a text stands for: an index whole, where all of it is here, or a manifest. */
async function choose(
  store: ImageStore,
  text: string,
  { platform, single }: { platform: Platform | null; single: boolean },
): Promise<SavedImage> {
  const { root, named } = rootOf(store.catalog, text)
  const name = named ? storeName(parseReference(text)) : null
  if (!isIndexType(root.mediaType)) {
    if (platform !== null) await requireConfigPlatform(store, root, platform, text)
    return { root, name }
  }
  const whole = platform === null && !single && (await isWhole(store, root, text))
  return { root: whole ? root : await manifestFor(store, root, platform ?? hostPlatform(), text), name }
}

async function isWhole(store: ImageStore, root: Descriptor, label: string): Promise<boolean> {
  const closure = await closureOf(root, (digest, what) => store.blobs.find(digest, manifestSizeMax, what), label)
  if (closure.elsewhere.length > 0) return false
  for (const blob of closure.blobs) if (!(await store.blobs.has(blob))) return false
  return true
}

async function manifestFor(store: ImageStore, root: Descriptor, platform: Platform, text: string): Promise<Descriptor> {
  const what = `image "${text}"`
  let descriptor = root
  for (let depth = 0; depth <= indexDepthMax; depth++) {
    const body = await store.blobs.find(descriptor.digest, manifestSizeMax, what)
    if (body === null) {
      throw new CaissonError(
        'ERR_IMAGE_INVALID',
        `${what}: its manifest ${descriptor.digest} for this platform is not here: only what this machine runs is pulled`,
      )
    }
    const document = parseManifest(body, descriptor.mediaType, what)
    if (document.kind === 'manifest') return { ...descriptor, mediaType: document.mediaType }
    const { mediaType, digest, size } = choosePlatform(document, platform, what)
    descriptor = { mediaType, digest, size }
  }
  throw nestedTooDeep(what)
}

async function requireConfigPlatform(
  store: ImageStore,
  root: Descriptor,
  platform: Platform,
  text: string,
): Promise<void> {
  const what = `image "${text}"`
  const document = parseManifest(await store.blobs.read(root.digest, manifestSizeMax, what), root.mediaType, what)
  if (document.kind !== 'manifest') return
  const config = parseImageConfig(await store.blobs.read(document.config.digest, configSizeMax, what), what)
  requirePlatform(config, platform, what)
}

async function partsOf(
  store: ImageStore,
  images: readonly SavedImage[],
): Promise<{ manifests: ClosureManifest[]; blobs: Descriptor[] }> {
  const manifests = new Map<Digest, ClosureManifest>()
  const blobs = new Map<Digest, Descriptor>()
  for (const { root, name } of images) {
    const read = (digest: Digest, what: string): Promise<Buffer | null> =>
      store.blobs.find(digest, manifestSizeMax, what)
    const closure = await closureOf(root, read, name ?? root.digest)
    for (const manifest of closure.manifests) manifests.set(manifest.digest, manifest)
    for (const blob of closure.blobs) blobs.set(blob.digest, blob)
    const [missing] = closure.elsewhere
    if (missing !== undefined) throw notHere(missing)
  }
  return { manifests: [...manifests.values()], blobs: [...blobs.values()] }
}

function notHere(digest: Digest): CaissonError {
  return new CaissonError('ERR_IMAGE_INVALID', `blob ${digest} is not in the store: pull the image again`)
}

/** Yields what `produce` does, while a lease holds the content. */
async function* whileHeld(
  store: ImageStore,
  hold: { owner: string; layers: readonly string[]; blobs: readonly Digest[] },
  signal: AbortSignal,
  produce: () => AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  let end = (): void => undefined
  const ended = new Promise<void>((resolve) => (end = resolve))
  let begin = (): void => undefined
  const begun = new Promise<void>((resolve) => (begin = resolve))
  const lease = store.protect(hold, signal, () => {
    begin()
    return ended
  })
  await Promise.race([begun, lease])
  try {
    for await (const chunk of produce()) {
      signal.throwIfAborted()
      yield chunk
    }
  } finally {
    end()
    await lease
  }
}

/** image-spec image-layout.md, as a tar: what is small and tells of the rest comes first, blobs in the order of their digests. */
async function* writeOciArchive(
  store: ImageStore,
  images: readonly SavedImage[],
  blobs: readonly Descriptor[],
): AsyncGenerator<Buffer, void, undefined> {
  const names = images.flatMap(({ name }) => (name === null ? [] : [name]))
  const manifests = images.map(({ root: { mediaType, digest, size }, name }) => ({
    ...{ mediaType, digest, size },
    ...(name !== null && { annotations: annotationsFor(name, names) }),
  }))
  yield* smallFile('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  yield* smallFile('index.json', JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }))
  yield entryHeader('blobs/', 'directory', 0)
  yield entryHeader('blobs/sha256/', 'directory', 0)
  const unique = new Map(blobs.map((blob) => [blob.digest, blob]))
  for (const digest of [...unique.keys()].sort()) {
    const { size } = unique.get(digest) as Descriptor
    yield* blobFile(store, `blobs/sha256/${hexOf(digest)}`, digest, size)
  }
  yield archiveEnd
}
