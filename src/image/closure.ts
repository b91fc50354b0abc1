import { CaissonError } from '../errors.ts'
import { indexDepthMax } from './catalog.ts'
import { parseDigest, type Digest } from './digest.ts'
import { JsonCursor } from './json.ts'
import { manifestSizeMax, type Descriptor } from './manifest.ts'
import { isForeignLayer, isIndexType } from './media-types.ts'

const itemsMax = 4096
/** Bytes of all manifests of one image together: they are held in memory. */
const documentsMax = 64 << 20

export interface ClosureManifest extends Descriptor {
  readonly body: Buffer
  readonly subject: Digest | null
}

/** All that a root descriptor leads to, of every platform: what is pushed, saved, loaded. It need not be an image that runs here. */
export interface Closure {
  /** Each after those that it names; the root is the last. */
  readonly manifests: readonly ClosureManifest[]
  /** Configs and layers; foreign layers are left out, for nobody may pass them on. */
  readonly blobs: readonly Descriptor[]
  /** Manifests that an index names and `read` does not know. */
  readonly elsewhere: readonly Digest[]
}

/**
 * @param read a document whole, verified; null when it is not there
 * @param label of the image, for messages
 * @throws CaissonError ERR_IMAGE_INVALID when the root is not there, or what is there is no manifest
 */
export async function closureOf(
  root: Descriptor,
  read: (digest: Digest, what: string) => Promise<Buffer | null>,
  label: string,
): Promise<Closure> {
  const manifests = new Map<Digest, ClosureManifest>()
  const blobs = new Map<Digest, Descriptor>()
  const elsewhere = new Set<Digest>()
  let bytes = 0
  const add = async (descriptor: Descriptor, depth: number): Promise<void> => {
    if (manifests.has(descriptor.digest)) return
    const what = `${descriptor.digest} of image "${label}"`
    if (depth > indexDepthMax) throw new CaissonError('ERR_IMAGE_INVALID', `${what}: indexes are nested too deep`)
    const body = await read(descriptor.digest, what)
    if (body === null) {
      if (depth === 0) throw new CaissonError('ERR_IMAGE_INVALID', `${what} is not there`)
      elsewhere.add(descriptor.digest)
      return
    }
    bytes += body.length
    if (bytes > documentsMax) {
      throw new CaissonError('ERR_IMAGE_INVALID', `image "${label}": more than ${documentsMax} bytes of manifests`)
    }
    const document = JsonCursor.parse(body, what, manifestSizeMax)
    const mediaType = document.get('mediaType')?.string(255) ?? descriptor.mediaType
    if (isIndexType(mediaType) || document.has('manifests')) {
      for (const child of descriptorsIn(document, 'manifests')) await add(child, depth + 1)
    }
    const own = document.has('config') ? [descriptorOf(document.require('config'))] : []
    const layers = descriptorsIn(document, 'layers').filter((layer) => !isForeignLayer(layer.mediaType))
    for (const blob of [...own, ...layers]) blobs.set(blob.digest, blob)
    const subject = document.get('subject')?.get('digest')?.string(255)
    manifests.set(descriptor.digest, {
      mediaType,
      digest: descriptor.digest,
      size: body.length,
      body,
      subject: subject === undefined ? null : parseDigest(subject, what),
    })
  }
  await add(root, 0)
  return { manifests: [...manifests.values()], blobs: [...blobs.values()], elsewhere: [...elsewhere] }
}

/** Any descriptor, of whatever type. */
function descriptorOf(cursor: JsonCursor): Descriptor {
  return {
    mediaType: cursor.require('mediaType').string(255),
    digest: parseDigest(cursor.require('digest').string(255), cursor.where),
    size: cursor.require('size').count(Number.MAX_SAFE_INTEGER),
  }
}

export function descriptorsIn(document: JsonCursor, name: string): Descriptor[] {
  return (document.get(name)?.items(itemsMax) ?? []).map(descriptorOf)
}
