import { basename } from 'node:path'
import { CaissonError } from '../../errors.ts'
import { withDirectory } from '../../files.ts'
import type { Native } from '../../native/types.ts'
import { closureOf } from '../closure.ts'
import { indexDepthMax } from '../catalog.ts'
import { choosePlatform, parseManifest, type Descriptor } from '../manifest.ts'
import type { NameImage, Puller, PullProgress, Wanted } from '../pull.ts'
import { hostPlatform } from '../platform.ts'
import { parseReference, repositoryName } from '../reference.ts'
import type { Image } from '../snapshot.ts'
import type { ImageStore } from '../store.ts'
import { contentsOf, type ArchivedImage } from './contents.ts'
import type { HashNative } from '../file-digest.ts'
import type { RecodeNative } from './native-blobs.ts'
import { Spool } from './spool.ts'
import { SpooledImage } from './spooled-image.ts'

/** An image that an archive has brought. */
export interface LoadedImage {
  readonly image: Image
  /** Names that it has from the archive; none: it is found by its id. */
  readonly names: readonly string[]
}

const what = 'image archive'

/**
 * Brings the images of an archive into the store, all or none: an OCI layout as tar, or what `docker save` writes; gzip or zstd around
 * it. Nothing of the archive is believed that its digests do not prove.
 *
 * @param name for the one image of an archive, in place of the names that it brings
 * @throws CaissonError ERR_IMAGE_INVALID, ERR_IMAGE_REFERENCE, ERR_IMAGE_PLATFORM, ERR_IMAGE_UNSUPPORTED, ERR_DIGEST_MISMATCH,
 *   ERR_LAYER_INVALID; the signal's reason
 */
export async function loadArchive(
  { store, puller, native }: { store: ImageStore; puller: Puller; native: LoadNative },
  source: AsyncIterable<Uint8Array>,
  options: { name: string | null; signal: AbortSignal; onProgress: (progress: PullProgress) => void },
): Promise<LoadedImage[]> {
  const { name, signal, onProgress } = options
  const directory = store.draft()
  try {
    const spool = await Spool.read(source, directory, { native, what, signal })
    const { images, made } = await contentsOf(spool, what)
    if (name !== null && images.length > 1) {
      throw new CaissonError('ERR_INVALID_ARGUMENT', `${what}: it holds ${images.length} images, "${name}" names one`)
    }
    const named = images.map((image) => (name === null ? image : { ...image, names: [name] }))
    const wanted: Wanted[] = []
    for (const image of named) {
      const label = image.names[0] ?? image.root.digest
      wanted.push(await want(image, new SpooledImage(spool, image.root, made, label)))
    }
    const brought = await puller.bring(wanted, { signal, onProgress })
    return brought.map((image, index) => ({ image, names: named[index]?.names ?? [] }))
  } finally {
    await withDirectory(native, store.paths.tmp, ({ fd }) => native.removeTree(fd, basename(directory)))
  }
}

export type LoadNative = RecodeNative & HashNative & Pick<Native, 'openDirectory' | 'removeTree'>

/** An index is kept whole where all that it names is there; else the image is the manifest for this machine. */
async function want(image: ArchivedImage, source: SpooledImage): Promise<Wanted> {
  const closure = await closureOf(image.root, (digest) => source.read(digest), source.label)
  // what the archive lacks it lacks whatever was meant to be kept
  const there = ({ digest, size }: Descriptor): boolean => source.has(digest, size)
  const whole = closure.elsewhere.length === 0 && closure.blobs.every(there)
  const names = namesOf(image, whole)
  if (!whole || closure.manifests.length === 1) return { source, names }
  const own = await ownManifest(image.root, source)
  return {
    source,
    names,
    beside: {
      documents: closure.manifests
        .filter(({ digest }) => digest !== own)
        .map(({ body, ...descriptor }) => ({ descriptor, body })),
      blobs: closure.blobs,
    },
  }
}

/** The manifest that an index has for this machine. */
async function ownManifest(root: Descriptor, source: SpooledImage): Promise<string> {
  let descriptor = root
  for (let depth = 0; depth <= indexDepthMax; depth++) {
    const { body } = await source.manifest(descriptor.digest)
    const document = parseManifest(body, descriptor.mediaType, `manifest ${descriptor.digest} of "${source.label}"`)
    if (document.kind === 'manifest') break
    descriptor = choosePlatform(document, hostPlatform(), `image "${source.label}"`)
  }
  return descriptor.digest
}

function namesOf({ names }: ArchivedImage, whole: boolean): NameImage {
  return ({ root, manifest }) => {
    const kept = whole ? root : manifest
    if (names.length === 0) return [{ name: '', root: kept }]
    return names.map((name) => {
      const { digest, ...reference } = parseReference(name)
      if (digest === null) return { name, root: kept }
      const promised = [root, manifest].find((candidate) => candidate.digest === digest)
      if (promised !== undefined) return { name, root: promised }
      throw new CaissonError(
        'ERR_IMAGE_REFERENCE',
        `${what}: it calls an image ${repositoryName({ ...reference, digest })}@${digest}, and its digest is ${root.digest}`,
      )
    })
  }
}
