import { unwatchFile, watch, watchFile, type FSWatcher } from 'node:fs'
import { join } from 'node:path'
import { CaissonError, isCaissonError } from '../errors.ts'
import type { Native } from '../native/types.ts'
import { BlobStore } from './blobs.ts'
import { CatalogReader, type Catalog } from './catalog.ts'
import { layerChain } from './chain.ts'
import { parseImageConfig, type ImageConfig } from './config.ts'
import type { Digest } from './digest.ts'
import { createLayout, indexVersion, readIndexFile, rootEntry, touchIndexFile, writeIndexFile } from './index-file.ts'
import { LayerStore } from './layers.ts'
import { Leases } from './leases.ts'
import { StoreLock } from './lock.ts'
import type { ImageLogger } from './logger.ts'
import { configSizeMax, type Descriptor, type ImageManifest } from './manifest.ts'
import { ImagePaths } from './paths.ts'
import { thisProcess } from './process-identity.ts'
import type { Image, ImageSnapshot } from './snapshot.ts'
import { OverlaySnapshotter } from './snapshot/overlay.ts'
import type { SnapshotterName } from './snapshot/snapshotter.ts'
import { Snapshotters } from './snapshot/snapshotters.ts'
import { Trash } from './trash.ts'
import { Usage } from './usage.ts'
import { Workspace } from './workspace.ts'

/** How often index.json is looked at where it cannot be watched, ms. */
const pollMs = 1000

export type StoreNative = Pick<
  Native,
  'cloneTree' | 'createLayerUnpacker' | 'lockFile' | 'openDirectory' | 'removeTree'
>

export interface StoreOptions {
  root: string
  native: StoreNative
  logger: ImageLogger
  /** Leases of containers belong to it; instances share the store. */
  instance: string
  /** What new containers are made by; default: overlay. */
  snapshotter?: SnapshotterName
}

/** A pull names nothing before its end: what it will need, so that no collection takes it away meanwhile. */
export interface Hold {
  readonly owner: string
  readonly layers: readonly string[]
  readonly blobs: readonly Digest[]
}

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
  readonly #logger: ImageLogger
  readonly #lock: StoreLock
  readonly #leases: Leases
  readonly #trash: Trash
  readonly #workspace: Workspace
  readonly #reader: CatalogReader
  #catalog: Catalog
  #version = ''
  /** The version that usage was counted for. */
  #measured = ''
  #adopted = false
  #watcher: FSWatcher | null = null
  #refreshing: Promise<void> | null = null
  #changed = false

  private constructor(
    parts: Pick<ImageStore, 'paths' | 'blobs' | 'layers' | 'snapshotters' | 'usage'> & {
      logger: ImageLogger
      lock: StoreLock
      leases: Leases
      trash: Trash
      workspace: Workspace
      reader: CatalogReader
      catalog: Catalog
    },
  ) {
    this.paths = parts.paths
    this.blobs = parts.blobs
    this.layers = parts.layers
    this.snapshotters = parts.snapshotters
    this.usage = parts.usage
    this.#logger = parts.logger
    this.#lock = parts.lock
    this.#leases = parts.leases
    this.#trash = parts.trash
    this.#workspace = parts.workspace
    this.#reader = parts.reader
    this.#catalog = parts.catalog
  }

  static async open(options: StoreOptions): Promise<ImageStore> {
    const { native, logger } = options
    const paths = new ImagePaths(options.root)
    await paths.create()
    await createLayout(paths)
    const self = await thisProcess()
    const usage = new Usage()
    const workspace = new Workspace(paths, self)
    const trash = new Trash(native, paths)
    await workspace.sweep(trash)
    const blobs = new BlobStore(paths, workspace, usage)
    const reader = new CatalogReader(blobs, logger)
    const layers = new LayerStore({ native, paths, workspace, usage, blobs })
    const overlay = new OverlaySnapshotter({ native, paths, layers, workspace })
    const store = new ImageStore({
      paths,
      blobs,
      layers,
      snapshotters: new Snapshotters([overlay], options.snapshotter ?? 'overlay'),
      usage,
      logger,
      lock: new StoreLock(native, join(paths.locks, 'store')),
      leases: new Leases(paths, workspace, self, options.instance),
      trash,
      workspace,
      reader,
      catalog: await reader.read([]),
    })
    await store.#measure()
    try {
      await store.#refresh()
    } catch (error) {
      if (!isCaissonError(error)) throw error
      // containers must be adopted all the same; pulls and collection will say what is wrong
      logger.warn({ err: error }, 'the index of the image store is damaged: no image is known')
    }
    store.#watch()
    await trash.empty()
    return store
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
   * Gives names to an image whose blobs and layers are all here; a name that another image had moves.
   *
   * @returns whether another image has lost its last name by this, so that something can be collected
   */
  async commit(names: readonly { name: string; root: Descriptor }[]): Promise<boolean> {
    return this.#lock.hold(async () => {
      await this.#load()
      const before = this.#catalog.blobs
      const taken = new Set(names.map(({ name }) => name))
      const kept = (await readIndexFile(this.paths.index)).filter(({ name }) => !taken.has(name))
      await writeIndexFile(
        this.paths,
        [...kept, ...names.map(({ name, root }) => rootEntry(name, root))],
        this.#workspace.path(),
      )
      await this.#load()
      return [...before].some((digest) => !this.#catalog.blobs.has(digest))
    })
  }

  /** Removes the image with all its names; absent is fine. Content that nothing else needs goes as well. */
  async remove(text: string): Promise<Image | null> {
    const removed = await this.#lock.hold(async () => {
      await this.#load()
      const image = this.#catalog.snapshot.find(text)
      if (image === null) return null
      const roots = this.#catalog.rootsOf(image.id)
      await writeIndexFile(
        this.paths,
        this.#catalog.entries.filter(({ digest }) => !roots.has(digest)),
        this.#workspace.path(),
      )
      await this.#load()
      return image
    })
    if (removed !== null) await this.collect()
    return removed
  }

  /** Runs `work` with its content protected from collection; when it fails, what it made and nothing else needs is removed. */
  async protect<T>(hold: Hold, work: () => Promise<T>): Promise<T> {
    const fresh = { blobs: new Set<Digest>(), layers: new Set<string>() }
    try {
      await this.#lock.hold(async () => {
        // an index that cannot be read is found out now, not after the transfer
        await this.#load()
        await this.#leases.acquire('pull', hold.owner, hold)
        for (const digest of hold.blobs) if ((await this.blobs.size(digest)) === null) fresh.blobs.add(digest)
        const known = await this.layers.directories()
        for (const directory of hold.layers) if (!known.has(directory)) fresh.layers.add(directory)
      })
      const result = await work()
      await this.#leases.release('pull', hold.owner)
      return result
    } catch (error) {
      await this.#undo(hold, fresh)
      throw error
    }
  }

  async #undo(hold: Hold, fresh: { blobs: ReadonlySet<Digest>; layers: ReadonlySet<string> }): Promise<void> {
    try {
      await this.#lock.hold(async () => {
        await this.#leases.release('pull', hold.owner)
        await this.#collectLocked(fresh)
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
   * @throws CaissonError ERR_IMAGE_NOT_FOUND
   */
  async acquireLease(id: Digest, owner: string): Promise<void> {
    await this.#lock.hold(async () => {
      await this.#load()
      if ((await this.#leases.claim(owner)) !== null) return
      const config = await this.#configOf(id)
      if (config !== null) {
        const layers = layerChain(config.diffIds).map(({ directory }) => directory)
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
      return lease?.layers.some((directory) => !this.#catalog.layers.has(directory)) ?? false
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
    await this.#trash.empty()
  }

  async #collectLocked(candidates?: { blobs: ReadonlySet<Digest>; layers: ReadonlySet<string> }): Promise<void> {
    await this.#load()
    const blobs = new Set(this.#catalog.blobs)
    const layers = new Set(this.#catalog.layers)
    for (const lease of await this.#leases.list()) {
      for (const digest of lease.blobs) blobs.add(digest)
      for (const directory of lease.layers) layers.add(directory)
    }
    const before = this.usage.info('')
    for (const digest of candidates?.blobs ?? (await this.blobs.list())) {
      if (!blobs.has(digest)) await this.blobs.remove(digest, this.#trash)
    }
    await this.layers.collect(layers, this.#trash, candidates?.layers)
    if (this.usage.info('').inodesUsed === before.inodesUsed) return
    await touchIndexFile(this.paths)
    this.#version = await indexVersion(this.paths)
  }

  /** Reads index.json again when it is not the version in memory. */
  async #load(): Promise<void> {
    const version = await indexVersion(this.paths)
    if (version === this.#version) return
    const catalog = await this.#reader.read(await readIndexFile(this.paths.index))
    this.#catalog = catalog
    this.#version = version
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

  async #follow(): Promise<void> {
    while (this.#changed) {
      this.#changed = false
      await this.#refresh()
    }
  }

  async #measure(): Promise<void> {
    await this.blobs.measure()
    await this.layers.load()
  }

  #watch(): void {
    try {
      this.#watcher = watch(this.paths.layout, { persistent: false }, (_event, name) => {
        if (name === 'index.json') this.#onChange()
      })
      this.#watcher.on('error', (error) => this.#logger.warn({ err: error }, 'the image store is no longer watched'))
    } catch (error) {
      // inotify(7): the user's instances or watches may be used up
      this.#logger.warn({ err: error }, 'the image store cannot be watched: it is polled')
      watchFile(this.paths.index, { persistent: false, interval: pollMs }, this.#onChange)
    }
  }

  readonly #onChange = (): void => {
    this.#changed = true
    this.#refreshing ??= this.#follow()
      .catch((error: unknown) => {
        this.#logger.warn({ err: error }, 'the image store has changed and cannot be read; the last good state stays')
      })
      .finally(() => (this.#refreshing = null))
  }

  async close(): Promise<void> {
    this.#watcher?.close()
    this.#watcher = null
    unwatchFile(this.paths.index, this.#onChange)
    await this.#refreshing
  }
}

function notPresent(id: Digest): CaissonError {
  return new CaissonError('ERR_IMAGE_NOT_FOUND', `image ${id} is not present`, { fields: { image: id } })
}
