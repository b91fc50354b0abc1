import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ifPresent, renameIfPresent, withDirectory } from '../files.ts'
import type { ErofsBlock, Native, TreeUsage } from '../native/types.ts'
import { Arrivals } from './arrivals.ts'
import { writeAtomically } from './atomic-file.ts'
import type { GrowingBlob } from './blobs.ts'
import { layerDirectory, type ChainLink } from './chain.ts'
import { digestOfHex, hexOf, type Digest } from './digest.ts'
import { indexedForm } from './layer-form.ts'
import { parseLayerMeta, type LayerMeta } from './layer-record.ts'
import { settleUpon } from './layers-below.ts'
import { withLockFile } from './lock.ts'
import type { LayerDescriptor } from './manifest.ts'
import type { ImagePaths } from './paths.ts'
import { orAborted, SingleFlight } from './single-flight.ts'
import { Slots } from './slots.ts'
import type { Trash } from './trash.ts'
import { defaultUnpackLimits, unpackBlob, type LayersBelow, type UnpackLimits } from './unpack.ts'
import type { Usage } from './usage.ts'
import type { Workspace } from './workspace.ts'

export type LayerNative = Pick<
  Native,
  'blobWriter' | 'letGo' | 'lockFile' | 'mountErofs' | 'openDirectory' | 'removeTree' | 'treeUsage' | 'unpackLayer'
>

/** What is known of a layer once it is made. */
type Made = Pick<LayerMeta, 'opaque' | 'erofs'>

/** A blob on its way, which is unpacked as it comes. */
export interface ArrivingBlob extends GrowingBlob {
  /** Resolves when it is whole and verified. */
  readonly whole: Promise<unknown>
}

export interface UnpackOptions {
  /** Indexes the layer instead. */
  readonly erofsBlock?: ErofsBlock
  readonly arriving?: ArrivingBlob
}

/** Layers that are unpacked while they come: they wait for registries, and hold up nobody who has a whole one. */
const followers = new Slots(6)

/** What a layer's directory holds: its tree, or the files that its tree is mounted from. */
export type LayerKind = 'tree' | 'erofs'

const metaPattern = /^([0-9a-f]{64})\.json$/
/** A layer's directory; with a suffix one that was set aside. */
const directoryPattern = /^([a-z2-7]{26})(?:\.[0-9a-f]+)?$/

/** Layers by chain id, ready to be lowerdirs of an overlay: unpacked, or as an EROFS index and its archive (layer-form.ts). */
export class LayerStore {
  readonly #native: LayerNative
  readonly #paths: ImagePaths
  readonly #workspace: Workspace
  readonly #usage: Usage
  readonly #limits: UnpackLimits
  /** Records, by directory name. */
  readonly #known = new Map<string, LayerMeta>()
  readonly #arrivals = new Arrivals<Digest>()
  readonly #flights = new SingleFlight<Digest, boolean>()

  constructor(parts: {
    native: LayerNative
    paths: ImagePaths
    workspace: Workspace
    usage: Usage
    limits?: UnpackLimits
  }) {
    this.#native = parts.native
    this.#paths = parts.paths
    this.#workspace = parts.workspace
    this.#usage = parts.usage
    this.#limits = parts.limits ?? defaultUnpackLimits
  }

  /** Reads the records on disk, where other processes write as well. */
  async load(): Promise<void> {
    const onDisk = (await this.recorded()).filter((chainId) => !this.#known.has(layerDirectory(chainId)))
    const known = [...this.#known.values()].map(({ chainId }) => chainId)
    for (const chainId of [...onDisk, ...known]) await this.#read(chainId)
    await this.#measureLeftovers()
  }

  /** Directories that have no record, or were set aside, take room as well: each is measured once. */
  async #measureLeftovers(): Promise<void> {
    const recorded = this.#known
    const names = new Set(await this.present())
    for (const key of this.#usage.layers()) if (!recorded.has(key) && !names.has(key)) this.#usage.dropLayer(key)
    const counted = new Set(this.#usage.layers())
    for (const name of names) {
      if (recorded.has(name) || counted.has(name)) continue
      try {
        this.#usage.setLayer(name, await this.measure(name))
      } catch (error) {
        // another process collects it
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    }
  }

  /** Walks the tree of a layer's directory. */
  measure(name: string): Promise<TreeUsage> {
    return this.#usageOf(this.#paths.layers, name)
  }

  #usageOf(parent: string, name: string): Promise<TreeUsage> {
    return withDirectory(this.#native, parent, ({ fd }) => this.#native.treeUsage(fd, name))
  }

  /** Whether the layer is unpacked; looks at the disk, as another process may have made or removed it. */
  async has(chainId: Digest): Promise<boolean> {
    return (await this.#read(chainId)) !== null
  }

  async #read(chainId: Digest): Promise<LayerMeta | null> {
    const file = this.#metaFile(chainId)
    const text = await ifPresent(readFile(file, 'utf8'))
    // a damaged one is as good as none: the layer is made again
    const meta = text === null ? null : parseLayerMeta(text, file)
    if (meta === null) this.#forget(chainId)
    else this.#remember(meta)
    return meta
  }

  /**
   * Unpacks the blob of a layer unless it is there, in either form. Calls for one chain share the work, across processes too.
   *
   * @param options.arriving unpacks it as it comes, and makes it the layer once the blob is verified. This is shared with nobody, and
   *   what fails here says nothing: whoever needs the layer then asks for that of the whole blob
   * @returns whether this call (or one that it shared) made the layer
   */
  async unpack(
    link: ChainLink,
    blob: LayerDescriptor,
    signal: AbortSignal,
    options: UnpackOptions = {},
  ): Promise<boolean> {
    if (await this.has(link.chainId)) return false
    const { arriving } = options
    if (arriving === undefined) {
      return this.#flights.run(link.chainId, signal, (shared) =>
        this.#locked(link, shared, () =>
          this.#drafted(async (draft) => {
            await this.#commit(link, draft, await this.#apply(draft, link, blob, shared, options))
            return true
          }),
        ),
      )
    }
    const made = followers.tryRun(() =>
      this.#drafted(async (draft) => {
        const made = await this.#apply(draft, link, blob, signal, options)
        await orAborted(arriving.whole, signal)
        // not before: the layer may come from elsewhere, and quicker
        return this.#locked(link, signal, async () => {
          await this.#commit(link, draft, made)
          return true
        })
      }),
    )
    return (await made) ?? false
  }

  /** What a layer's record says that its directory holds; null: it has none, as far as this process knows. */
  kindOf(directory: string): LayerKind | null {
    const meta = this.#known.get(directory)
    return meta === undefined ? null : meta.erofs === undefined ? 'tree' : 'erofs'
  }

  /** Of layers, base first, those that show: overlayfs does not look at the mark on a layer's root. */
  visible<T extends Pick<ChainLink, 'directory'>>(layers: readonly T[]): readonly T[] {
    const opaque = layers.findLastIndex(({ directory }) => this.#known.get(directory)?.opaque === true)
    return layers.slice(Math.max(0, opaque))
  }

  /** @returns what `make` does: false when the layer was there, and it was not called */
  #locked(link: ChainLink, signal: AbortSignal, make: () => Promise<boolean>): Promise<boolean> {
    return withLockFile(this.#native, join(this.#paths.locks, `layer-${link.directory}`), signal, async () =>
      (await this.has(link.chainId)) ? false : make(),
    )
  }

  /** Runs `make` with a directory of its own in tmp/, which goes unless it became a layer. */
  async #drafted(make: (draft: string) => Promise<boolean>): Promise<boolean> {
    const draft = this.#workspace.path()
    await mkdir(draft, { mode: 0o755 })
    let made = false
    try {
      made = await make(draft)
      return made
    } finally {
      if (!made) await this.#removeDraft(draft)
    }
  }

  /**
   * Makes a tree in tmp/ the layer, unless it is there: renamed, so that it is there whole or not at all. The caller removes a draft
   * that is left.
   */
  async adopt(link: ChainLink, draft: string, signal: AbortSignal): Promise<void> {
    await this.#locked(link, signal, async () => {
      await this.#commit(link, draft)
      return true
    })
  }

  async #commit(link: ChainLink, draft: string, made: Made = {}): Promise<void> {
    const usage = await this.#usageOf(this.#paths.tmp, basename(draft))
    await this.#setAside(link.directory)
    await rename(draft, join(this.#paths.layers, link.directory))
    const meta: LayerMeta = {
      v: 1,
      chainId: link.chainId,
      diffId: link.diffId,
      parent: link.parent,
      dir: link.directory,
      size: usage.bytes,
      content: usage.content,
      inodes: usage.inodes,
      ...made,
    }
    await writeAtomically(this.#metaFile(link.chainId), `${JSON.stringify(meta)}\n`, this.#workspace.path())
    this.#remember(meta)
  }

  async #apply(
    draft: string,
    link: ChainLink,
    blob: LayerDescriptor,
    signal: AbortSignal,
    { erofsBlock, arriving }: UnpackOptions,
  ): Promise<Made> {
    const path = arriving?.path ?? this.#paths.blob(blob.digest)
    const { parent } = link
    const { expanded, opaqueRoot } = await withDirectory(this.#native, draft, ({ fd }) =>
      unpackBlob(this.#native, path, fd, {
        ...{ diffId: link.diffId, what: `layer ${blob.digest}`, limits: this.#limits, signal },
        ...(erofsBlock !== undefined && { erofsBlock }),
        ...(arriving !== undefined && { growth: arriving.growth }),
        ...(parent !== null && { below: this.#below(parent, signal) }),
      }),
    )
    return {
      ...(opaqueRoot && { opaque: true }),
      ...(erofsBlock !== undefined && { erofs: await indexedForm(this.#native, draft, erofsBlock, expanded) }),
    }
  }

  /** Whoever asks for a layer asks for those below it as well, which are made meanwhile. */
  #below(parent: Digest, signal: AbortSignal): LayersBelow {
    return async ({ implied, impliedRoot }, settle) => {
      if (implied === 0 && !impliedRoot) {
        await settle([], true)
        return
      }
      const record = async (chainId: Digest): Promise<LayerMeta | null> => {
        const known = (): LayerMeta | null => this.#known.get(layerDirectory(chainId)) ?? null
        if (known() === null) await this.#arrivals.wait(chainId, () => this.has(chainId), signal)
        return known()
      }
      await settleUpon({ native: this.#native, layers: this, paths: this.#paths, record }, parent, settle)
    }
  }

  /** A directory without a record may be the lower of a running container whose metadata was lost: it is moved, not removed. */
  async #setAside(name: string): Promise<void> {
    const aside = `${name}.${randomBytes(8).toString('hex')}`
    const moved = await renameIfPresent(join(this.#paths.layers, name), join(this.#paths.layers, aside))
    if (!moved) return
    this.#usage.setLayer(aside, await this.measure(aside))
  }

  #removeDraft(draft: string): Promise<void> {
    return withDirectory(this.#native, this.#paths.tmp, ({ fd }) => this.#native.removeTree(fd, basename(draft)))
  }

  /** Names in the layers' directory that are layers', with or without a record. */
  async present(): Promise<string[]> {
    return (await readdir(this.#paths.layers)).filter((name) => directoryPattern.test(name))
  }

  /** Whether directories of these layers have been set aside. */
  async anyAside(directories: readonly string[]): Promise<boolean> {
    const aside = (await this.present()).filter((name) => name.includes('.'))
    return aside.some((name) => directories.some((directory) => name.startsWith(directory)))
  }

  /** Chain ids that have a record. */
  async recorded(): Promise<Digest[]> {
    const names = await readdir(this.#paths.layerMeta)
    return names.flatMap((name) => {
      const hex = metaPattern.exec(name)?.[1]
      return hex === undefined ? [] : [digestOfHex(hex)]
    })
  }

  /** Null: absent or damaged. @throws CaissonError ERR_RECORD_INVALID when it is of a newer version */
  record(chainId: Digest): Promise<LayerMeta | null> {
    return this.#read(chainId)
  }

  /** Takes a layer out of use that is not what it should be: its directory, which may be mounted, is set aside until nobody needs it. */
  async discard(chainId: Digest): Promise<void> {
    await rm(this.#metaFile(chainId), { force: true })
    this.#forget(chainId)
    await this.#setAside(layerDirectory(chainId))
  }

  /** Directory names of the layers that are there, as far as records tell. */
  async directories(): Promise<Set<string>> {
    return new Set((await this.recorded()).map(layerDirectory))
  }

  /**
   * Removes the layers, of `candidates` or of all, that `needed` (directory names) does not hold; of those set aside, all that
   * `mounted` does not: no new container begins with them. Under the store's lock.
   *
   * @param mounted what leases of containers hold
   * @param recorded what the records of containers hold beside; asked only when something is to go
   */
  async collect(
    { needed, mounted }: { needed: ReadonlySet<string>; mounted: ReadonlySet<string> },
    trash: Trash,
    recorded: () => Promise<ReadonlySet<string>>,
    candidates?: ReadonlySet<string>,
  ): Promise<void> {
    const removable = (directory: string): boolean =>
      !needed.has(directory) && (candidates === undefined || candidates.has(directory))
    const chains = (await this.recorded()).filter((chainId) => removable(layerDirectory(chainId)))
    const names = (await this.present()).flatMap((name) => {
      const directory = directoryPattern.exec(name)?.[1]
      // a failed pull takes back what it made: what it set aside is not its own
      if (directory === undefined || (candidates !== undefined && name !== directory)) return []
      const goes = name === directory ? removable(directory) : !mounted.has(directory)
      return goes ? [{ name, directory }] : []
    })
    if (chains.length === 0 && names.length === 0) return
    const kept = await recorded()
    for (const chainId of chains) {
      if (kept.has(layerDirectory(chainId))) continue
      // the record first: a directory without one is a leftover, a record without its directory would be a lie
      await rm(this.#metaFile(chainId), { force: true })
      this.#forget(chainId)
    }
    for (const { name, directory } of names) {
      if (kept.has(directory)) continue
      await trash.take(join(this.#paths.layers, name))
      this.#usage.dropLayer(name)
    }
  }

  #metaFile(chainId: Digest): string {
    return join(this.#paths.layerMeta, `${hexOf(chainId)}.json`)
  }

  #remember(meta: LayerMeta): void {
    this.#known.set(meta.dir, meta)
    this.#arrivals.arrived(meta.chainId)
    this.#usage.setLayer(meta.dir, { bytes: meta.size, inodes: meta.inodes })
  }

  #forget(chainId: Digest): void {
    const directory = layerDirectory(chainId)
    if (this.#known.delete(directory)) this.#usage.dropLayer(directory)
  }
}
