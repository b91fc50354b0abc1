import { CaissonError } from '../errors.ts'
import { parseDigest, type Digest } from './digest.ts'
import { JsonCursor } from './json.ts'
import {
  isConfigType,
  isForeignLayer,
  isIndexType,
  isManifestType,
  isSchema1Type,
  layerCompression,
  mediaTypes,
  type LayerCompression,
} from './media-types.ts'
import { formatPlatform, platformRank, type Platform } from './platform.ts'

/** Bytes of a manifest or index: what distribution and containerd accept. */
export const manifestSizeMax = 4 << 20
/** Bytes of an image config. */
export const configSizeMax = 8 << 20
/** OVL_MAX_STACK of fs/overlayfs: no mount has more. */
export const layerCountMax = 500
const indexEntriesMax = 1024
const mediaTypeMax = 255
const urlsMax = 16
const referrersMax = 4096
/** A compressed layer; above any that is in use, below what breaks arithmetic. */
const layerSizeMax = 2 ** 40

/** image-spec descriptor.md: what a document says about another before it is fetched. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** Where else the content may be; of foreign layers. */
  readonly urls?: readonly string[]
}

export interface LayerDescriptor extends Descriptor {
  readonly compression: LayerCompression
}

export interface IndexEntry extends Descriptor {
  readonly platform: Platform | null
  /** An attestation or the like: describes another entry, runs nowhere. */
  readonly attestation: boolean
}

export interface ImageIndex {
  readonly kind: 'index'
  readonly mediaType: string
  readonly manifests: readonly IndexEntry[]
}

export interface ImageManifest {
  readonly kind: 'manifest'
  readonly mediaType: string
  readonly config: Descriptor
  readonly layers: readonly LayerDescriptor[]
}

/** What refers to a manifest: image-spec manifest.md, "subject". */
export interface Referrer extends Descriptor {
  /** Empty when the registry does not say. */
  readonly artifactType: string
  readonly annotations: Readonly<Record<string, string>>
}

/** @throws CaissonError ERR_IMAGE_INVALID */
export function parseReferrers(data: Buffer, what: string): Referrer[] {
  const entries = JsonCursor.parse(data, what, manifestSizeMax).get('manifests')?.items(referrersMax) ?? []
  return entries.map((cursor) => ({
    ...parseDescriptor(cursor, Number.MAX_SAFE_INTEGER),
    artifactType: cursor.get('artifactType')?.string(mediaTypeMax) ?? '',
    annotations: cursor.get('annotations')?.stringMap(256, 1024, 64 << 10) ?? {},
  }))
}

function parseDescriptor(cursor: JsonCursor, sizeMax: number): Descriptor {
  return {
    mediaType: cursor.require('mediaType').string(mediaTypeMax),
    digest: parseDigest(cursor.require('digest').string(mediaTypeMax), cursor.where),
    size: cursor.require('size').count(sizeMax),
  }
}

/**
 * Parses an index, a manifest list, an OCI manifest or a Docker schema 2 manifest.
 *
 * @param mediaType what the descriptor or the registry said it is; the document's own word must agree, and it may not be both
 *   kinds at once: two tools must never see two images in the same bytes (GHSA-77vh-xpmg-72qh)
 * @throws CaissonError ERR_IMAGE_INVALID or ERR_IMAGE_UNSUPPORTED naming document and property
 */
export function parseManifest(data: Buffer, mediaType: string, what: string): ImageIndex | ImageManifest {
  if (isSchema1Type(mediaType)) throw unsupportedSchema1(what)
  const root = JsonCursor.parse(data, what, manifestSizeMax)
  const version = root.require('schemaVersion').count(1000)
  if (version === 1) throw unsupportedSchema1(what)
  if (version !== 2) throw root.invalid(`schemaVersion ${version} is not 2`)

  const own = root.get('mediaType')?.string(mediaTypeMax)
  const known = isIndexType(mediaType) || isManifestType(mediaType)
  if (own !== undefined && known && own !== mediaType)
    throw root.invalid(`calls itself ${own}, was announced as ${mediaType}`)
  const hasManifests = root.has('manifests')
  const hasLayers = root.has('layers') || root.has('config')
  if (hasManifests && hasLayers) throw root.invalid('has both "manifests" and "layers"')

  // an OCI document may leave its type to the descriptor, and a static file server knows none: then its shape decides
  const shape = hasManifests ? mediaTypes.ociIndex : hasLayers ? mediaTypes.ociManifest : ''
  const effective = own ?? (known ? mediaType : shape)
  if (isIndexType(effective)) return parseIndex(root, effective)
  if (isManifestType(effective)) return parseImageManifest(root, effective)
  throw new CaissonError(
    'ERR_IMAGE_UNSUPPORTED',
    `${what}: media type "${(effective || mediaType).slice(0, 200)}" is not an image`,
  )
}

function unsupportedSchema1(what: string): CaissonError {
  return new CaissonError(
    'ERR_IMAGE_UNSUPPORTED',
    `${what}: Docker image manifest version 2, schema 1 is not supported; push the image again with a current tool`,
  )
}

function parseIndex(root: JsonCursor, mediaType: string): ImageIndex {
  const manifests = root
    .require('manifests')
    .items(indexEntriesMax)
    .map((cursor): IndexEntry => {
      const platform = cursor.get('platform')
      const annotations = cursor.get('annotations')?.stringMap(256, 1024, 64 << 10)
      return {
        ...parseDescriptor(cursor, Number.MAX_SAFE_INTEGER),
        platform:
          platform === undefined
            ? null
            : {
                os: platform.get('os')?.string(64) ?? '',
                architecture: platform.get('architecture')?.string(64) ?? '',
                variant: platform.get('variant')?.string(64) ?? '',
              },
        attestation: annotations?.['vnd.docker.reference.type'] !== undefined,
      }
    })
  return { kind: 'index', mediaType, manifests }
}

function parseImageManifest(root: JsonCursor, mediaType: string): ImageManifest {
  const config = parseDescriptor(root.require('config'), configSizeMax)
  if (!isConfigType(config.mediaType)) {
    throw new CaissonError(
      'ERR_IMAGE_UNSUPPORTED',
      `${root.where}: an artifact (${config.mediaType}), not a container image`,
    )
  }
  const layers = root
    .require('layers')
    .items(layerCountMax)
    .map((cursor): LayerDescriptor => {
      const descriptor = parseDescriptor(cursor, layerSizeMax)
      const compression = layerCompression(descriptor.mediaType)
      if (compression === null) {
        throw new CaissonError(
          'ERR_IMAGE_UNSUPPORTED',
          `${root.where}: layer ${descriptor.digest} has media type ${descriptor.mediaType}, which is no file system layer`,
        )
      }
      const urls = isForeignLayer(descriptor.mediaType) ? cursor.get('urls')?.strings(urlsMax, 2048) : undefined
      return { ...descriptor, compression, ...(urls !== undefined && { urls }) }
    })
  return { kind: 'manifest', mediaType, config, layers }
}

/**
 * The entry that suits the machine best. One without a platform is taken when no other fits: the image's config then has the
 * last word.
 *
 * @throws CaissonError ERR_IMAGE_PLATFORM naming the platforms that there are
 */
export function choosePlatform(index: ImageIndex, machine: Platform, what: string): IndexEntry {
  const usable = index.manifests.filter(
    (entry) => !entry.attestation && (isManifestType(entry.mediaType) || isIndexType(entry.mediaType)),
  )
  let best: IndexEntry | undefined
  let bestRank = -1
  for (const entry of usable) {
    const rank = entry.platform === null ? null : platformRank(entry.platform, machine)
    if (rank !== null && rank > bestRank) [best, bestRank] = [entry, rank]
  }
  best ??= usable.find((entry) => entry.platform === null)
  if (best !== undefined) return best
  const offered = usable.flatMap((entry) => (entry.platform === null ? [] : [formatPlatform(entry.platform)]))
  throw new CaissonError(
    'ERR_IMAGE_PLATFORM',
    `${what}: no image for ${formatPlatform(machine)}; there is ${offered.slice(0, 20).join(', ') || 'none at all'}`,
  )
}
