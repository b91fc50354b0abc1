import { CaissonError, isCaissonError } from '../errors.ts'
import type { BlobStore } from './blobs.ts'
import { Checker, type CheckReport } from './check.ts'
import type { Catalog, CatalogReader } from './catalog.ts'
import { layerChain } from './chain.ts'
import { Collector, type Made } from './collector.ts'
import { parseImageConfig, type ImageConfig } from './config.ts'
import type { Digest } from './digest.ts'
import type { HashNative } from './file-digest.ts'
import { indexVersion, readIndexFile, rootEntry, touchIndexFile, writeIndexFile, type RootEntry } from './index-file.ts'
import type { LayerStore } from './layers.ts'
import { IndexWatch } from './index-watch.ts'
import type { HeldLease, Lease, Leases } from './leases.ts'
import type { StoreLock } from './lock.ts'
import { isInterruption, type Hold } from './hold.ts'
import type { ImageLogger } from './logger.ts'
import { configSizeMax, type Descriptor, type ImageManifest } from './manifest.ts'
import type { Image, ImageSnapshot } from './snapshot.ts'
import type { ImagePaths } from './paths.ts'
import type { Snapshotters } from './snapshot/snapshotters.ts'
import { openParts, type StoreOptions, type StoreParts } from './store-parts.ts'
import type { Trash } from './trash.ts'
import type { Usage } from './usage.ts'
import type { Workspace } from './workspace.ts'

/**
 * The image store: an OCI image layout and the layers unpacked from it, shared by many processes. Reading is from a snapshot in
 * memory; every change is under one lock, and visible at once by the rename of index.json.
 */
export class ImageStore {
  readonly paths: ImagePaths
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly snapshotters: Snapshotters
  readonly usage: Usage
  readonly #native: HashNative
  readonly #logger: ImageLogger
  readonly #lock: StoreLock
  readonly #leases: Leases
  readonly #trash: Trash
  readonly #workspace: Workspace
  readonly #reader: CatalogReader
  readonly #recordedLayers: () => Promise<ReadonlySet<string>>
  readonly #collector: Collector
  #catalog: Catalog
  #version = ''
  /** The version that usage was counted for. */
  #measured = ''
  #adopted = false
  #watch: IndexWatch | null = null

  private constructor(parts: StoreParts, catalog: Catalog) {
    const { paths, blobs, layers, snapshotters, usage } = parts
    this.paths = paths
    this.blobs = blobs
    this.layers = layers
    this.snapshotters = snapshotters
    this.usage = usage
    this.#native = parts.native
    this.#logger = parts.logger
    this.#lock = parts.lock
    this.#leases = parts.leases
    this.#trash = parts.trash
    this.#workspace = parts.workspace
    this.#reader = parts.reader
    this.#recordedLayers = parts.recordedLayers
    this.#collector = new Collector(parts)
    this.#catalog = catalog
  }

  static async open(options: StoreOptions): Promise<ImageStore> {
    const parts = await openParts(options)
    const store = new ImageStore(parts, await parts.reader.read([]))
    await store.#measure()
    try {
      await store.#refresh()
    } catch (error) {
      if (!isCaissonError(error)) throw error
      // containers must be adopted all the same; pulls and collection will say what is wrong
      parts.logger.warn({ err: error }, 'the index of the image store is damaged: no image is known')
    }
    store.#watch = new IndexWatch(parts.paths, parts.logger, () => store.#refresh())
    await parts.trash.empty()
    return store
  }

  /** A path in tmp/ that is in nobody's use, and that the next start sweeps should this process be killed. */
  draft(): string {
    return this.#workspace.path()
  }

  /** The images of this moment, from memory. */
  get snapshot(): ImageSnapshot {
    return this.#catalog.snapshot
  }

  /** The same, with what the images are made of. */
  get catalog(): Catalog {
    return this.#catalog
  }

  /** What a container of the image needs. @throws CaissonError ERR_IMAGE_NOT_FOUND */
  require(id: Digest): { image: Image; manifest: ImageManifest } {
    const image = this.#catalog.snapshot.find(id)
    const manifest = image === null ? null : this.#catalog.manifestOf(image.id)
    if (image === null || manifest === null) {
      throw notPresent(id)
    }
    return { image, manifest }
  }

  /**
   * Gives names to an image whose blobs and layers are all here; a name that another image had moves. An empty name: the image is
   * kept without one, unless it has others.
   *
   * @returns whether another image has lost its last name by this, so that something can be collected
   */
  async commit(names: readonly { name: string; root: Descriptor }[]): Promise<boolean> {
    return this.#lock.hold(async () => {
      await this.#load()
      const before = this.#catalog.blobs
      const taken = new Set(names.map(({ name }) => name).filter((name) => name !== ''))
      const kept = (await readIndexFile(this.paths.index)).filter(({ name }) => !taken.has(name))
      const here = new Set(kept.map(({ digest }) => digest))
      const added = names.filter(({ name, root }) => name !== '' || !here.has(root.digest))
      await this.#write([...kept, ...added.map(({ name, root }) => rootEntry(name, root))])
      return [...before].some((digest) => !this.#catalog.blobs.has(digest))
    })
  }

  /**
   * Takes names away, and what then nothing needs. Under the store's lock `choose` is asked which entries go.
   *
   * @returns what it has answered beside
   */
  async drop<T>(
    choose: (catalog: Catalog, held: readonly Lease[]) => { gone: ReadonlySet<RootEntry>; result: T },
  ): Promise<T> {
    const { gone, result } = await this.#lock.hold(async () => {
      await this.#load()
      const choice = choose(this.#catalog, await this.#leases.list())
      if (choice.gone.size > 0) await this.#write(this.#catalog.entries.filter((entry) => !choice.gone.has(entry)))
      return choice
    })
    if (gone.size > 0) await this.collect()
    return result
  }

  /** Removes the image with all its names; absent is fine. Content that nothing else needs goes as well. */
  async remove(text: string): Promise<Image | null> {
    return this.drop((catalog) => {
      const image = catalog.snapshot.find(text)
      const roots = image === null ? new Set() : catalog.rootsOf(image.id)
      return { gone: new Set(catalog.entries.filter(({ digest }) => roots.has(digest))), result: image }
    })
  }

  async #write(entries: readonly RootEntry[]): Promise<void> {
    await writeIndexFile(this.paths, entries, this.#workspace.path())
    await this.#load()
  }

  /** What interrupted pulls have left waits for nobody any more. Under the store's lock nothing changes: `collect` follows. */
  async forgetInterrupted(): Promise<void> {
    await this.#lock.hold(() => this.#leases.dropInterrupted())
  }

  /** What is held beside the index: by containers, and by pulls under way or interrupted. */
  async leases(): Promise<readonly HeldLease[]> {
    return this.#lock.hold(() => this.#leases.list())
  }

  /**
   * Runs `work` with its content protected from collection; when it fails, what it made and nothing else needs is removed. What an
   * earlier pull of the same `resumeName` has left is taken over. A pull that is to be gone on with, and is interrupted by the end of
   * the service, keeps what it has; so does one that went on with another and did not reach the registry.
   */
  async protect<T>(hold: Hold, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const fresh = { blobs: new Set<Digest>(), layers: new Set<string>(), resumed: false }
    try {
      await this.#lock.hold(async () => {
        // an index that cannot be read is found out now, not after the transfer
        await this.#load()
        if (hold.resumeName !== undefined) fresh.resumed = await this.#leases.dropInterrupted(hold.resumeName)
        await this.#leases.acquire('pull', hold.owner, hold)
        for (const digest of hold.blobs) if ((await this.blobs.size(digest)) === null) fresh.blobs.add(digest)
        const known = await this.layers.directories()
        for (const directory of hold.layers) if (!known.has(directory)) fresh.layers.add(directory)
      })
      const result = await work()
      await this.#leases.release('pull', hold.owner)
      return result
    } catch (error) {
      const { resumed } = fresh
      if (hold.resumeName !== undefined && isInterruption(error, signal, resumed)) this.#leases.interrupt(hold.owner)
      else await this.#undo(hold, resumed ? { blobs: new Set(hold.blobs), layers: new Set(hold.layers) } : fresh)
      throw error
    }
  }

  async #undo(hold: Hold, made: Made): Promise<void> {
    try {
      await this.#lock.hold(async () => {
        await this.#leases.release('pull', hold.owner)
        await this.#collectLocked(made)
      })
      await this.#trash.empty()
    } catch (error) {
      // the caller must hear what failed first; what is left has no name and goes with the next collection
      this.#logger.warn({ err: error }, 'a failed pull could not be undone at once')
    }
  }

  /**
   * Keeps the image's layers for a container, until `release`. Durable; claiming what the container already has is free.
   *
   * @param recorded what the record of a container that is adopted lists: held whatever has become of the image
   * @throws CaissonError ERR_IMAGE_NOT_FOUND
   */
  async acquireLease(id: Digest, owner: string, recorded: readonly string[] = []): Promise<void> {
    await this.#lock.hold(async () => {
      await this.#load()
      if ((await this.#leases.claim(owner)) !== null) return
      const config = recorded.length > 0 ? null : await this.#configOf(id)
      const layers = config === null ? recorded : layerChain(config.diffIds).map(({ directory }) => directory)
      if (config !== null || recorded.length > 0) {
        await this.#leases.acquire('container', owner, { layers })
      } else if (this.#adopted) {
        await this.#leases.release('container', owner)
        throw notPresent(id)
      } else {
        // a container that runs must be adopted, whatever has become of its image
        this.#logger.warn({ image: id, container: owner }, 'the image of an adopted container is gone from the store')
      }
    })
  }

  /** The config, also of an image that has lost its names. */
  async #configOf(id: Digest): Promise<ImageConfig | null> {
    const image = this.#catalog.snapshot.find(id)
    if (image !== null) return image.config
    if (this.#adopted || (await this.blobs.size(id)) === null) return null
    return parseImageConfig(await this.blobs.read(id, configSizeMax, `image ${id}`), `image ${id}`)
  }

  /** Ends a container's lease; absent is fine. */
  async release(owner: string): Promise<void> {
    const orphaned = await this.#lock.hold(async () => {
      const lease = await this.#leases.claim(owner)
      await this.#leases.release('container', owner)
      if (lease === null) return false
      return (
        lease.layers.some((directory) => !this.#catalog.layers.has(directory)) || this.layers.anyAside(lease.layers)
      )
    })
    if (orphaned) await this.collect()
  }

  /** Every container that lives has claimed its lease: from now on, what nobody needs is removed. */
  async adoptionComplete(): Promise<void> {
    this.#adopted = true
    await this.#lock.hold(() => this.#leases.dropUnclaimed())
    await this.collect()
  }

  /** Removes blobs and layers that neither index.json nor a lease holds. Before adoption is complete it does nothing. */
  async collect(): Promise<void> {
    if (!this.#adopted) return
    await this.#lock.hold(() => this.#collectLocked())
    await this.snapshotters.collect(new Set(await this.layers.present()))
    await this.#trash.empty()
  }

  async #collectLocked(candidates?: Made): Promise<void> {
    await this.#load()
    const before = this.usage.info('')
    await this.#collector.collect(this.#catalog, candidates)
    if (this.usage.info('').inodesUsed === before.inodesUsed) return
    await touchIndexFile(this.paths)
    this.#version = await indexVersion(this.paths)
  }

  /** Holds everything against what it should be; see Checker. */
  async check(options: { repair: boolean; signal: AbortSignal }): Promise<CheckReport> {
    const checker = new Checker({
      native: this.#native,
      paths: this.paths,
      blobs: this.blobs,
      layers: this.layers,
      locked: (work) => this.#lock.hold(work),
      catalog: async () => {
        await this.#load()
        return this.#catalog
      },
      leases: () => this.#leases.list(),
      recordedLayers: this.#recordedLayers,
      dropEntries: (gone) => this.#write(this.#catalog.entries.filter(({ digest }) => !gone.has(digest))),
      removeBlob: (digest) => this.blobs.remove(digest, this.#trash),
      collect: () => this.collect(),
      collects: this.#adopted,
    })
    return checker.run(options)
  }

  /** Reads index.json again when it is not the version in memory. */
  async #load(): Promise<void> {
    const version = await indexVersion(this.paths)
    if (version === this.#version) return
    const catalog = await this.#reader.read(await readIndexFile(this.paths.index))
    this.#catalog = catalog
    this.#version = version
  }

  /** Names of images that are never collected from now on, as in the options. @throws CaissonError ERR_IMAGE_REFERENCE */
  async pin(names: readonly string[]): Promise<void> {
    this.#reader.pin(names)
    await this.#lock.hold(async () => {
      this.#version = ''
      await this.#load()
    })
  }

  /** Another process has changed the store. */
  async #refresh(): Promise<void> {
    await this.#lock.hold(async () => {
      await this.#load()
      // another call may have read the new index before this one, without counting
      if (this.#measured === this.#version) return
      await this.#measure()
      this.#measured = this.#version
    })
  }

  async #measure(): Promise<void> {
    await this.blobs.measure()
    await this.layers.load()
  }

  async close(): Promise<void> {
    await this.#watch?.close()
  }
}

function notPresent(id: Digest): CaissonError {
  return new CaissonError('ERR_IMAGE_NOT_FOUND', `image ${id} is not present`, { fields: { image: id } })
}
