import { CaissonError } from '../errors.ts'
import { layerChain, type ChainLink } from './chain.ts'
import type { ImageConfig } from './config.ts'
import { parseDigest, type Digest } from './digest.ts'
import type { CheckReport } from './check.ts'
import type { CommitRequest } from './exchange/commit.ts'
import { ImageExchange } from './exchange/exchange.ts'
import type { ImageDescription } from './exchange/made-image.ts'
import type { LoadedImage } from './exchange/load.ts'
import type { SaveOptions } from './exchange/save.ts'
import { imageUsage, type ImageUsage } from './image-usage.ts'
import { inspectImage, type ImageDetails } from './inspect.ts'
import type { ImageLogger } from './logger.ts'
import type { Referrer } from './manifest.ts'
import { tagImage, untagImage, type Untagged } from './naming.ts'
import { pruneImages, type Pruned } from './prune.ts'
import { Puller } from './pull.ts'
import type { Image } from './snapshot.ts'
import type { SnapshotSettings } from './snapshot/open.ts'
import type { SnapshotterName } from './snapshot/snapshotter.ts'
import type { Snapshotters } from './snapshot/snapshotters.ts'
import { ImageStore } from './store.ts'
import type { StoreNative } from './store-parts.ts'
import {
  Transfers,
  type PullOptions,
  type PushOptions,
  type ReferrerOptions,
  type TransferOptions,
} from './transfers.ts'
import type { FsInfo } from './usage.ts'

export type { CheckProblem, CheckReport, CheckSubject } from './check.ts'
export type { ImageConfig } from './config.ts'
export { archiveOfLayout, writeLayout } from './exchange/layout-directory.ts'
export { exportSnapshot } from './exchange/export.ts'
export type { ImageDescription } from './exchange/made-image.ts'
export type { LoadedImage } from './exchange/load.ts'
export type { ArchiveFormat, SaveOptions } from './exchange/save.ts'
export { parsePlatform, type Platform } from './platform.ts'
export type { ImageUsage } from './image-usage.ts'
export type { HistoryEntry, ImageDetails, ImageLayer } from './inspect.ts'
export type { ImageLogger } from './logger.ts'
export type { Referrer } from './manifest.ts'
export type { LayerState, PullProgress } from './pull.ts'
export type { Untagged } from './naming.ts'
export type { Pruned } from './prune.ts'
export type { PushProgress, PushState } from './push.ts'
export type { RegistryOptions } from './registry/client.ts'
export type { RegistryAuth } from './registry/credentials.ts'
export type { Image } from './snapshot.ts'
export type { SnapshotSettings } from './snapshot/open.ts'
export type * from './snapshot/snapshotter.ts'
export type { PullOptions, PushOptions } from './transfers.ts'
export type { FsInfo } from './usage.ts'

export interface ImageServiceOptions extends TransferOptions {
  /** `<root>` of docs/architecture.md, "On disk". */
  root: string
  native: StoreNative
  logger: ImageLogger
  /** Whose container leases this process adopts; services and libraries that share a root each have their own. */
  instance?: string
  /** How root file systems come from layers. */
  snapshots?: SnapshotSettings
  /** Names of images that no prune takes and that a kubelet is told to leave: whole, or beginnings that end with `*`. */
  pinned?: readonly string[]
  /** Directory names of layers that containers' records list; see StoreOptions. */
  recordedLayers?: () => Promise<ReadonlySet<string>>
}

export interface ResolvedLayers {
  config: ImageConfig
  /** Base first: what Snapshotter.prepare takes. */
  chain: readonly ChainLink[]
  /** Names of directories below layersRoot, topmost layer first, as overlayfs wants them. */
  lower: string[]
  layersRoot: string
}

/** Images: pulled, kept, looked up, removed. Everything that only reads answers from memory (law 4). */
export class ImageService {
  readonly #store: ImageStore
  readonly #transfers: Transfers
  readonly #exchange: ImageExchange
  readonly #logger: ImageLogger
  readonly #closing = new AbortController()
  #collecting: Promise<void> = Promise.resolve()

  private constructor(store: ImageStore, options: ImageServiceOptions) {
    this.#store = store
    this.#logger = options.logger
    const puller = new Puller(store)
    this.#transfers = new Transfers(
      { store, puller, logger: options.logger, closing: this.#closing.signal },
      { ...options },
    )
    this.#exchange = new ImageExchange({ store, puller, native: options.native })
  }

  static async open(options: ImageServiceOptions): Promise<ImageService> {
    const { root, native, logger, instance = 'default', snapshots = {}, pinned = [], recordedLayers } = options
    const store = await ImageStore.open({
      ...{ root, native, logger, instance, snapshots, pinned },
      ...(recordedLayers !== undefined && { recordedLayers }),
    })
    const service = new ImageService(store, options)
    await service.#transfers.verifyTrust()
    return service
  }

  /**
   * Changes what can change while the service runs, for pulls and pushes to come; what is left out stays.
   *
   * @throws CaissonError ERR_IMAGE_REFERENCE for a name to pin that is none; nothing has changed then
   */
  async configure(options: Pick<ImageServiceOptions, 'pinned' | 'registry' | 'trustPolicy'>): Promise<void> {
    if (options.pinned !== undefined) await this.#store.pin(options.pinned)
    await this.#transfers.configure(options)
  }

  /**
   * Pulls an image by tag or digest; calls for one name with one account share the work.
   *
   * @throws CaissonError ERR_IMAGE_REFERENCE, ERR_IMAGE_NOT_FOUND, ERR_IMAGE_PLATFORM, ERR_IMAGE_INVALID, ERR_LAYER_INVALID,
   *   ERR_IMAGE_UNSUPPORTED, ERR_IMAGE_SIGNATURE, ERR_CONFIG_INVALID, ERR_DIGEST_MISMATCH, ERR_REGISTRY_UNAVAILABLE, ERR_REGISTRY_DENIED, ERR_REGISTRY_PROTOCOL,
   *   ERR_CANCELLED
   */
  async pull(text: string, options: PullOptions = {}): Promise<Image> {
    return this.#transfers.pull(text, options)
  }

  /**
   * Brings an image of the store to a registry, byte by byte as it is here: its manifest has the same digest there.
   *
   * @param text a name, an id, or a unique prefix of one
   * @param to the name at the registry; default: the image's own name
   * @returns the digest of what was pushed
   * @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_IMAGE_REFERENCE, ERR_IMAGE_INVALID, ERR_REGISTRY_UNAVAILABLE,
   *   ERR_REGISTRY_DENIED, ERR_REGISTRY_PROTOCOL, ERR_CANCELLED
   */
  async push(text: string, options: PushOptions = {}): Promise<{ reference: string; digest: Digest }> {
    return this.#transfers.push(text, options)
  }

  /**
   * What refers to an image at its registry: signatures, lists of contents, attestations (distribution-spec, "Listing Referrers").
   * Their content is not verified, and they are not in the store.
   *
   * @param text a name
   * @throws CaissonError ERR_IMAGE_REFERENCE, ERR_IMAGE_NOT_FOUND, ERR_IMAGE_INVALID, ERR_REGISTRY_*, ERR_CANCELLED
   */
  async referrers(text: string, options: ReferrerOptions = {}): Promise<Referrer[]> {
    return this.#transfers.referrers(text, options)
  }

  /**
   * Takes an image from an OCI image layout directory and names it.
   *
   * @param name a name with a tag
   * @param reference the image's name inside the layout, when there are several
   */
  async importLayout(
    directory: string,
    name: string,
    options: Omit<PullOptions, 'auth'> & { reference?: string } = {},
  ): Promise<Image> {
    return this.#transfers.importLayout(directory, name, options)
  }

  /**
   * Images as one archive, which comes as it is read, and is the same whenever it is made of the same images. What it consists of is
   * held until the stream has ended, or is left.
   *
   * @param texts names, ids, or unique prefixes of ids
   * @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_AMBIGUOUS_ID, ERR_IMAGE_PLATFORM, ERR_IMAGE_INVALID, ERR_CANCELLED
   */
  save(texts: readonly string[], options: SaveOptions = {}): AsyncGenerator<Buffer, void, undefined> {
    return this.#exchange.save(texts, { ...options, signal: this.#signal(options.signal) })
  }

  /**
   * Brings the images of an archive into the store, all or none: an OCI layout as tar, or what `docker save` writes; plain, gzip or
   * zstd, as its bytes say. `archiveOfLayout` makes an archive of a layout directory.
   *
   * @param options.name for the one image of the archive, in place of the names that it brings
   * @throws CaissonError ERR_IMAGE_INVALID, ERR_IMAGE_REFERENCE, ERR_IMAGE_PLATFORM, ERR_IMAGE_UNSUPPORTED, ERR_DIGEST_MISMATCH,
   *   ERR_LAYER_INVALID, ERR_CANCELLED
   */
  async load(
    archive: AsyncIterable<Uint8Array>,
    options: Omit<PullOptions, 'auth'> & { name?: string } = {},
  ): Promise<LoadedImage[]> {
    return this.#exchange.load(archive, { ...options, signal: this.#signal(options.signal) })
  }

  /**
   * Makes an image of one layer of the archive of a root file system: a tar; plain, gzip or zstd, as its bytes say.
   *
   * @param name with a tag; null: it is found by its id
   * @throws CaissonError ERR_IMAGE_REFERENCE, ERR_INVALID_ARGUMENT, ERR_LAYER_INVALID, ERR_CANCELLED
   */
  async importRootfs(
    archive: AsyncIterable<Uint8Array>,
    name: string | null,
    options: ImageDescription & { signal?: AbortSignal } = {},
  ): Promise<Image> {
    return this.#exchange.importRootfs(archive, name, { ...options, signal: this.#signal(options.signal) })
  }

  /** Makes an image of a container's changes: Containers.commit has the rest. */
  async commitSnapshot(request: Omit<CommitRequest, 'signal'> & { signal?: AbortSignal }): Promise<Image> {
    return this.#exchange.commit({ ...request, signal: this.#signal(request.signal) })
  }

  #signal(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal])
  }

  /** All images, or the one that `filter` (as in `status`) names. */
  list(filter?: string): readonly Image[] {
    if (filter === undefined || filter === '') return this.#store.snapshot.images
    const image = this.status(filter)
    return image === null ? [] : [image]
  }

  /**
   * The image with this id, unique prefix of an id, name with tag or digest, or name alone; null when there is none.
   *
   * @throws CaissonError ERR_AMBIGUOUS_ID
   */
  status(text: string): Image | null {
    return this.#store.snapshot.find(text)
  }

  /** As `status`. @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_AMBIGUOUS_ID */
  require(text: string): Image {
    return this.#store.snapshot.require(text)
  }

  /**
   * All that there is to say about an image: its configuration, layers and history.
   *
   * @param text as in `status`
   * @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_AMBIGUOUS_ID, ERR_IMAGE_INVALID
   */
  async inspect(text: string): Promise<ImageDetails> {
    return inspectImage(this.#store, this.require(text).id)
  }

  /**
   * Removes the image with all its names; absent is fine. Layers that a container holds stay until its lease ends.
   *
   * @returns what was removed
   */
  async remove(text: string): Promise<Image | null> {
    return this.#store.remove(text)
  }

  /**
   * Gives an image another name; one that another image had moves.
   *
   * @param text a name, an id, or a unique prefix of one
   * @throws CaissonError ERR_IMAGE_NOT_FOUND, ERR_IMAGE_REFERENCE
   */
  async tag(text: string, name: string): Promise<void> {
    await tagImage(this.#store, text, name)
  }

  /** Takes one name away, and the image with its last one; by an id all of them. @throws CaissonError ERR_IMAGE_NOT_FOUND */
  async untag(text: string): Promise<Untagged> {
    return untagImage(this.#store, text)
  }

  /**
   * Removes images without a tag, or all, that no container uses; pinned ones stay. And what interrupted pulls have left, which the
   * next pull of the same name would have gone on with.
   */
  async prune(options: { all?: boolean } = {}): Promise<Pruned> {
    return pruneImages(this.#store, { all: options.all ?? false })
  }

  /**
   * Holds the store against what it should be: every reference, the digest of every blob, records and trees of layers; nothing may be
   * left over. It reads all blobs.
   *
   * @param options.repair takes away what is damaged, so that the next pull brings it again; directories that a container may live
   *   from are set aside
   */
  async check(options: { repair?: boolean; signal?: AbortSignal } = {}): Promise<CheckReport> {
    const { repair = false, signal = this.#closing.signal } = options
    return this.#store.check({ repair, signal })
  }

  /** What each image takes on disk, and what of it others take as well. From memory. */
  usage(): ImageUsage[] {
    return imageUsage(this.#store)
  }

  /**
   * What a container of the image is made of. A layer that is not unpacked (its image was written by another tool, or pulled for
   * another snapshotter) is unpacked now.
   *
   * @param imageId an id as `Image.id`; held by a lease of the caller
   * @param options.snapshotter that its layers are unpacked for; default: the chosen one
   * @throws CaissonError ERR_IMAGE_NOT_FOUND, or as `pull` for a damaged layer
   */
  async resolveLayers(
    imageId: string,
    options: { signal?: AbortSignal; snapshotter?: SnapshotterName } = {},
  ): Promise<ResolvedLayers> {
    const { image, manifest } = this.#store.require(parseDigest(imageId, 'image id'))
    const chain = layerChain(image.config.diffIds)
    const signal = options.signal ?? this.#closing.signal
    const { snapshotters } = this
    const snapshotter = options.snapshotter === undefined ? snapshotters.chosen : snapshotters.of(options.snapshotter)
    for (const [index, link] of chain.entries()) {
      const blob = manifest.layers[index]
      if (blob === undefined) {
        throw new CaissonError('ERR_IMAGE_INVALID', `image ${imageId}: its config names more layers than its manifest`)
      }
      await snapshotter.unpack(link, blob, signal)
    }
    return {
      config: image.config,
      chain,
      lower: chain.map(({ directory }) => directory).reverse(),
      layersRoot: this.#store.paths.layers,
    }
  }

  /**
   * Keeps the layers of an image for a container, durably, until `release`. While the service starts, it claims the lease of
   * each container that lives.
   *
   * @param recorded the layers that the record of a container lists, which is adopted
   * @throws CaissonError ERR_IMAGE_NOT_FOUND (never before `adoptionComplete`)
   */
  async acquireLease(imageId: string, ownerId: string, recorded: readonly string[] = []): Promise<void> {
    await this.#store.acquireLease(parseDigest(imageId, 'image id'), ownerId, recorded)
  }

  /** How root file systems come from layers. */
  get snapshotters(): Snapshotters {
    return this.#store.snapshotters
  }

  /** Ends the lease of a container; absent is fine. */
  async release(ownerId: string): Promise<void> {
    await this.#store.release(ownerId)
  }

  /** All containers that live have their leases: collection may begin, and does in the background. */
  adoptionComplete(): void {
    this.#collecting = this.#store.adoptionComplete().catch((error: unknown) => {
      this.#logger.warn({ err: error }, 'image collection failed; it is tried again with the next removal')
    })
  }

  /** Bytes and inodes of images: blobs and unpacked layers. From memory. */
  fsInfo(): FsInfo {
    return this.#store.usage.info(this.#store.paths.root)
  }

  /** Ends pulls that are under way. */
  async close(): Promise<void> {
    this.#closing.abort(new CaissonError('ERR_SERVICE_STOPPING', 'the image service is closing'))
    await this.#transfers.idle()
    await this.#collecting
    await this.#store.close()
    await this.#transfers.close()
  }
}
