import { randomBytes } from 'node:crypto'
import { CaissonError } from '../errors.ts'
import { span } from '../tracing/span.ts'
import { indexDepthMax, nestedTooDeep } from './catalog.ts'
import { layerChain, type ChainLink } from './chain.ts'
import { parseImageConfig, requirePlatform, type ImageConfig } from './config.ts'
import { verifyDigest, type Digest } from './digest.ts'
import type { ArrivingBlob } from './layers.ts'
import {
  choosePlatform,
  configSizeMax,
  manifestSizeMax,
  parseManifest,
  type Descriptor,
  type ImageManifest,
  type LayerDescriptor,
} from './manifest.ts'
import { forEachParallel } from './parallel.ts'
import { hostPlatform } from './platform.ts'
import { SingleFlight } from './single-flight.ts'
import type { Image } from './snapshot.ts'
import type { ImageSource } from './source.ts'
import type { ImageStore } from './store.ts'

export type LayerState = 'waiting' | 'downloading' | 'unpacking' | 'done'

/** Where one layer of a pull stands. */
export interface PullProgress {
  /** Digest of the compressed layer. */
  readonly layer: Digest
  readonly state: LayerState
  /** Bytes received. */
  readonly bytes: number
  /** Bytes of the compressed layer. */
  readonly size: number
}

/** Layers of one pull that are fetched or unpacked at once: what Docker and kubelets are used to. */
const parallelLayers = 3

/** An index, a manifest or a config. */
export interface Document {
  readonly descriptor: Descriptor
  readonly body: Buffer
}

/** The names that an image gets, by what was found: the digest of the root, and the descriptors. */
export type NameImage = (found: {
  root: Descriptor
  manifest: Descriptor
}) => readonly { name: string; root: Descriptor }[]

/** One of the images that are brought together. */
export interface Wanted {
  readonly source: ImageSource
  readonly names: NameImage
  /** Documents and blobs that are kept with the image and are of no use on this machine: of an index's other platforms. */
  readonly beside?: { readonly documents: readonly Document[]; readonly blobs: readonly Descriptor[] }
}

export interface BringOptions {
  readonly signal: AbortSignal
  readonly onProgress: (progress: PullProgress) => void
  /** Whether what it has brought waits for the next pull of the source, should this one be interrupted. */
  readonly resumable?: boolean
  /** Refuses by throwing, when the digests are known and nothing is stored yet. */
  readonly admit?: (digests: readonly Digest[]) => Promise<void>
}

interface Plan {
  readonly source: ImageSource
  /** What the name stands for: an index or the manifest. */
  readonly root: Descriptor
  readonly manifestDescriptor: Descriptor
  readonly manifest: ImageManifest
  readonly config: ImageConfig
  /** Indexes, manifest and config. */
  readonly documents: readonly Document[]
  readonly chain: readonly ChainLink[]
}

/** Brings an image from a source into the store: visible with its names at the end, or not at all. */
export class Puller {
  readonly #store: ImageStore
  readonly #transfers = new SingleFlight<Digest, void>()

  constructor(store: ImageStore) {
    this.#store = store
  }

  /**
   * @throws CaissonError of the image, the registry or the digests; what it had stored is taken away again
   */
  async pull(source: ImageSource, options: BringOptions & { names: NameImage }): Promise<Image> {
    const [image] = await this.bring([{ source, names: options.names }], options)
    return image as Image
  }

  /** The same for several images, in their order: visible all at once, or none of them. */
  async bring(wanted: readonly Wanted[], options: BringOptions): Promise<Image[]> {
    const { signal } = options
    const plans: Plan[] = []
    for (const { source } of wanted) {
      plans.push(await span('image.resolve', { 'image.ref': source.label }, () => this.#plan(source, signal)))
    }
    for (const { root, manifestDescriptor } of plans) await options.admit?.([root.digest, manifestDescriptor.digest])
    const documents = [...plans, ...wanted.map(({ beside }) => beside)].flatMap((each) => each?.documents ?? [])
    const others = wanted.flatMap(({ source, beside }) => (beside?.blobs ?? []).map((blob) => ({ source, blob })))
    const work = plans.flatMap(({ source, manifest, chain }) =>
      manifest.layers.map((layer, index) => ({ source, layer, link: chain[index] as ChainLink })),
    )
    const hold = {
      owner: randomBytes(16).toString('hex'),
      ...(options.resumable === true && { resumeName: labels(wanted) }),
      layers: work.map(({ link }) => link.directory),
      blobs: [
        ...documents.map(({ descriptor }) => descriptor.digest),
        ...[...work.map(({ layer }) => layer), ...others.map(({ blob }) => blob)].map(({ digest }) => digest),
      ],
    }
    const { images, displaced } = await this.#store.protect(hold, signal, async () => {
      for (const { descriptor, body } of documents) {
        if (!(await this.#store.blobs.has(descriptor))) {
          await this.#store.blobs.write(descriptor.digest, body, `image "${labels(wanted)}"`)
        }
      }
      for (const { source, blob } of others) await this.#obtain(source, blob, signal, () => undefined)
      for (const { layer } of work)
        options.onProgress({ layer: layer.digest, state: 'waiting', bytes: 0, size: layer.size })
      await forEachParallel(work, parallelLayers, signal, ({ source, layer, link }, one) =>
        span('image.layer', { 'layer.digest': layer.digest, 'layer.size': layer.size }, () =>
          this.#layer(source, layer, link, one, options.onProgress),
        ),
      )
      const names = plans.flatMap(
        ({ root, manifestDescriptor }, index) => wanted[index]?.names({ root, manifest: manifestDescriptor }) ?? [],
      )
      const displaced = await span('image.commit', {}, () => this.#store.commit(names))
      return { images: plans.map(({ manifest }) => this.#store.require(manifest.config.digest).image), displaced }
    })
    if (displaced) await this.#store.collect()
    return images
  }

  /** Finds out everything about the image before anything is stored. */
  async #plan(source: ImageSource, signal: AbortSignal): Promise<Plan> {
    const what = `image "${source.label}"`
    const found = await source.resolve(signal)
    const documents: Document[] = []
    let root: Descriptor | undefined
    let { digest, mediaType } = found
    for (let depth = 0; depth <= indexDepthMax; depth++) {
      const body = (depth === 0 ? found.body : null) ?? (await this.#document(source, digest, what, signal))
      verifyDigest(body, digest, `manifest of ${what}`)
      const document = parseManifest(body, mediaType, `manifest ${digest} of ${what}`)
      const descriptor: Descriptor = { mediaType: document.mediaType, digest, size: body.length }
      root ??= descriptor
      documents.push({ descriptor, body })
      if (document.kind === 'index') {
        ;({ digest, mediaType } = choosePlatform(document, hostPlatform(), what))
        continue
      }
      const { config, body: configBody } = await this.#config(source, document, what, signal)
      documents.push({ descriptor: document.config, body: configBody })
      return {
        source,
        root,
        manifestDescriptor: descriptor,
        manifest: document,
        config,
        documents,
        chain: layerChain(config.diffIds),
      }
    }
    throw nestedTooDeep(what)
  }

  async #document(source: ImageSource, digest: Digest, what: string, signal: AbortSignal): Promise<Buffer> {
    // nothing is held yet: what is in the store may be removed while it is read, and then comes from the source
    const known = await this.#store.blobs.size(digest)
    const kept =
      known !== null && known <= manifestSizeMax ? await this.#store.blobs.find(digest, manifestSizeMax, what) : null
    return kept ?? (await source.manifest(digest, signal)).body
  }

  async #config(
    source: ImageSource,
    manifest: ImageManifest,
    what: string,
    signal: AbortSignal,
  ): Promise<{ config: ImageConfig; body: Buffer }> {
    const descriptor = manifest.config
    const kept = (await this.#store.blobs.has(descriptor))
      ? await this.#store.blobs.find(descriptor.digest, configSizeMax, what)
      : null
    const body = kept ?? (await collect(await source.blob(descriptor, signal), descriptor.size, `config of ${what}`))
    verifyDigest(body, descriptor.digest, `config of ${what}`)
    const config = parseImageConfig(body, `config of ${what}`)
    requirePlatform(config, hostPlatform(), what)
    if (config.diffIds.length !== manifest.layers.length) {
      throw new CaissonError(
        'ERR_IMAGE_INVALID',
        `${what}: the manifest has ${manifest.layers.length} layers, the config names ${config.diffIds.length}`,
      )
    }
    return { config, body }
  }

  async #layer(
    source: ImageSource,
    layer: LayerDescriptor,
    link: ChainLink,
    signal: AbortSignal,
    onProgress: (progress: PullProgress) => void,
  ): Promise<void> {
    const report = (state: LayerState, bytes: number): void =>
      onProgress({ layer: layer.digest, state, bytes, size: layer.size })
    const { chosen } = this.#store.snapshotters
    const early: { made?: Promise<boolean> } = {}
    const begin = (arriving: ArrivingBlob): void => {
      early.made = chosen.unpack(link, layer, signal, { arriving }).catch(() => false)
    }
    try {
      await span('image.layer.download', {}, () =>
        this.#obtain(source, layer, signal, (bytes) => report('downloading', bytes), begin),
      )
      report('unpacking', layer.size)
      await span('image.layer.unpack', {}, async () => {
        if ((await early.made) !== true) await chosen.unpack(link, layer, signal)
      })
      report('done', layer.size)
    } finally {
      await early.made
    }
  }

  async #obtain(
    source: ImageSource,
    blob: Descriptor,
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
    onArriving?: (arriving: ArrivingBlob) => void,
  ): Promise<void> {
    if (await this.#store.blobs.has(blob)) return
    await this.#transfers.run(blob.digest, signal, (shared) =>
      this.#transfer(source, blob, shared, onBytes, onArriving),
    )
  }

  async #transfer(
    source: ImageSource,
    layer: Descriptor,
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
    onArriving?: (arriving: ArrivingBlob) => void,
  ): Promise<void> {
    if (source.take !== undefined) {
      const path = await source.take(layer)
      // another image of the same archive may have brought it meanwhile
      if (!(await this.#store.blobs.has(layer))) await this.#store.blobs.adopt(layer.digest, path)
      return
    }
    const what = `layer ${layer.digest} of image "${source.label}"`
    const bytes = (offset: number): Promise<AsyncIterable<Buffer>> => source.blob(layer, signal, offset)
    const whole = this.#store.blobs.obtain(layer, bytes, {
      ...{ what, signal, onBytes },
      ...(onArriving !== undefined && { onGrowing: (blob) => onArriving({ ...blob, whole }) }),
    })
    await whole
  }
}

function labels(wanted: readonly Wanted[]): string {
  return wanted.map(({ source }) => source.label).join(', ')
}

/** A small blob in memory, ending the stream as soon as it is longer than announced. */
async function collect(stream: AsyncIterable<Buffer>, size: number, what: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  let received = 0
  for await (const chunk of stream) {
    received += chunk.length
    if (received > size) throw new CaissonError('ERR_DIGEST_MISMATCH', `${what}: more than the ${size} bytes announced`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, received)
}
