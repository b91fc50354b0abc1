import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { CaissonError } from '../../errors.ts'
import { parseImageConfig } from '../config.ts'
import { digestOf, digestOfHex, type Digest } from '../digest.ts'
import { configSizeMax, layerCountMax, manifestSizeMax, type Descriptor, type ImageManifest } from '../manifest.ts'
import { mediaTypes, type LayerCompression } from '../media-types.ts'
import { hostPlatform } from '../platform.ts'
import type { ImageSource, ResolvedImage } from '../source.ts'
import type { ImageStore } from '../store.ts'
import { applyChanges, type ProcessConfig } from './changes.ts'

/** A layer that is in a file of the store's tmp/. */
export interface MadeLayer {
  readonly path: string
  readonly digest: Digest
  readonly size: number
  readonly diffId: Digest
  readonly compression: LayerCompression
}

export interface ImageDescription {
  /** Lines of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR. */
  changes?: readonly string[]
  author?: string
  /** Stands in the image's history. */
  message?: string
  /** Default: now. With the same time the same layers make the same image. */
  created?: Date
}

/** What an image is built upon. */
export interface BaseImage {
  readonly manifest: ImageManifest
  /** Of its manifest and its config, as they are. */
  readonly documents: { readonly manifest: Buffer; readonly config: Buffer }
}

const suffixes: Record<LayerCompression, string> = { none: '', gzip: '+gzip', zstd: '+zstd' }
const dockerSuffixes: Record<LayerCompression, string> = { none: '', gzip: '.gzip', zstd: '.zstd' }

/** An image that is made here: a base, if there is one, and a layer upon it. Of the kind of its base, else OCI's. */
export class MadeImage implements ImageSource {
  readonly label: string
  readonly #layer: MadeLayer
  readonly #config: Buffer
  readonly #manifest: Buffer
  readonly #mediaType: string

  /** @throws CaissonError ERR_INVALID_ARGUMENT, ERR_IMAGE_INVALID */
  constructor(
    label: string,
    base: BaseImage | null,
    layer: MadeLayer,
    { createdBy, ...description }: ImageDescription & { createdBy: string },
  ) {
    this.label = label
    this.#layer = layer
    const docker = base?.manifest.mediaType === mediaTypes.dockerManifest
    this.#mediaType = docker ? mediaTypes.dockerManifest : mediaTypes.ociManifest
    this.#config = Buffer.from(JSON.stringify(configOf(base, layer, { ...description, createdBy }, label)))
    const document =
      base === null ? {} : (JSON.parse(base.documents.manifest.toString('utf8')) as { layers?: object[] })
    const layerType = docker
      ? `application/vnd.docker.image.rootfs.diff.tar${dockerSuffixes[layer.compression]}`
      : `application/vnd.oci.image.layer.v1.tar${suffixes[layer.compression]}`
    const layers = [...(document.layers ?? []), { mediaType: layerType, digest: layer.digest, size: layer.size }]
    if (layers.length > layerCountMax) {
      throw new CaissonError('ERR_LIMIT_EXCEEDED', `${label}: more than ${layerCountMax} layers`)
    }
    this.#manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: this.#mediaType,
        config: {
          mediaType: docker ? mediaTypes.dockerConfig : mediaTypes.ociConfig,
          digest: digestOf(this.#config),
          size: this.#config.length,
        },
        layers,
      }),
    )
    // what it says must be what every reader accepts
    parseImageConfig(this.#config, label)
  }

  async resolve(): Promise<ResolvedImage> {
    return { digest: digestOf(this.#manifest), mediaType: this.#mediaType, body: this.#manifest }
  }

  async manifest(): Promise<{ body: Buffer; mediaType: string }> {
    return { body: this.#manifest, mediaType: this.#mediaType }
  }

  async blob({ digest }: Descriptor, _signal: AbortSignal, offset = 0): Promise<Readable> {
    if (digest === digestOf(this.#config)) return Readable.from([this.#config.subarray(offset)])
    return createReadStream(this.#file(digest), { start: offset })
  }

  async take({ digest }: Descriptor): Promise<string> {
    return this.#file(digest)
  }

  #file(digest: Digest): string {
    if (digest === this.#layer.digest) return this.#layer.path
    throw new CaissonError(
      'ERR_IMAGE_INVALID',
      `${this.label}: layer ${digest} of its base is not in the store any more`,
    )
  }
}

/** Manifest and config of an image of the store, as they are. @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_IMAGE_INVALID */
export async function baseOf(store: ImageStore, id: Digest): Promise<BaseImage> {
  const { manifest } = store.require(id)
  const what = `image ${id}`
  const digest = store.catalog.manifestDigestOf(id)
  if (digest === null) throw new CaissonError('ERR_IMAGE_INVALID', `${what}: its manifest is not in the store`)
  const [body, config] = [
    await store.blobs.read(digest, manifestSizeMax, what),
    await store.blobs.read(id, configSizeMax, what),
  ]
  return { manifest, documents: { manifest: body, config } }
}

/** What docker has written beside, of the container that a layer was made in. */
const ofContainer = new Set(['container', 'container_config', 'id', 'parent'])

interface RawConfig {
  config?: ProcessConfig
  rootfs?: { diff_ids?: string[] }
  history?: { empty_layer?: boolean }[]
}

/** The config of the base with the layer; what belongs to the container that the base was made by goes. */
function configOf(
  base: BaseImage | null,
  { diffId }: MadeLayer,
  {
    changes = [],
    author = '',
    message = '',
    created = new Date(),
    createdBy,
  }: ImageDescription & { createdBy: string },
  label: string,
): object {
  const known = base === null ? {} : (JSON.parse(base.documents.config.toString('utf8')) as RawConfig)
  const rest = Object.fromEntries(Object.entries(known).filter(([key]) => !ofContainer.has(key)))
  const diffIds = known.rootfs?.diff_ids ?? []
  const history = known.history ?? []
  // each layer has an entry that is not empty, or the new one would be taken for an older one's
  const missing = diffIds.length - history.filter(({ empty_layer }) => empty_layer !== true).length
  const { os, architecture, variant } = hostPlatform()
  const own = base === null ? { architecture, os, ...(architecture === 'arm' && { variant }) } : {}
  const time = created.toISOString()
  if (missing < 0) throw new CaissonError('ERR_IMAGE_INVALID', `${label}: its base has more history than layers`)
  return {
    ...own,
    ...rest,
    created: time,
    ...(author !== '' && { author }),
    config: applyChanges(known.config ?? {}, changes),
    rootfs: { type: 'layers', diff_ids: [...diffIds, diffId] },
    history: [
      ...history,
      ...Array.from({ length: missing }, () => ({})),
      {
        created: time,
        created_by: createdBy,
        ...(author !== '' && { author }),
        ...(message !== '' && { comment: message }),
      },
    ],
  }
}

export function layerDigests({ digest, diffId }: { digest: string; diffId: string }): {
  digest: Digest
  diffId: Digest
} {
  return { digest: digestOfHex(digest), diffId: digestOfHex(diffId) }
}
