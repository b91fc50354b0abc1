import type { ChainLink } from '../chain.ts'
import type { ArrivingBlob } from '../layers.ts'
import type { LayerDescriptor } from '../manifest.ts'

/**
 * Snapshots: how the root file system of a container comes from the layers of its image, behind one interface.
 *
 * What holds for every method of every snapshotter:
 *
 * - **Nothing is mounted here** (law 1). `prepare`, `view` and `mount` answer a description; the compiler makes plan records of it,
 *   and a stage of the monitor opens and mounts it, by descriptor, in the pod's own mount namespace.
 * - **Atomicity, and who undoes.** A method that fails has undone itself. One that a crash interrupts leaves at most what `remove` of
 *   the same key takes away (`prepare`, `view`), or what the next start sweeps (`unpack`, `commit`: their drafts lie in `tmp/`). The
 *   caller pushes `remove` onto its undo stack *before* it calls `prepare` or `view`.
 * - **Idempotence.** `remove` of what is not there, or is half there, is fine and takes away the rest. `unpack` of a layer that is
 *   there does nothing. `prepare` and `view` are never repeated for a key that was not removed: ids are not used twice.
 * - **After a restart** nothing is in memory. `mount`, `usage`, `commit` and `remove` work from the key and from what is on disk; the
 *   caller remembers the snapshotter's name, the layers, and whether it was a view. `reconcile` then takes away what no key that
 *   lives accounts for.
 * - **Layers** are read-only for ever once `unpack` or `commit` has answered. The caller holds a lease on those that it gives, from
 *   before `prepare` until after `remove`; `collect` drops what was made of layers that are gone.
 * - Calls for different keys may overlap; for one key the caller makes one at a time, but for `usage`. None blocks the event loop.
 */
export interface Snapshotter {
  readonly name: SnapshotterName

  /**
   * Makes the form of a layer that this snapshotter builds upon, from its blob, unless it is there. Calls for one layer share the
   * work, across processes too.
   *
   * @param options.arriving the blob on its way: what fails then says nothing of the layer, and the caller asks once more when the
   *   blob is whole
   * @returns whether this call (or one that it shared) made it
   * @throws CaissonError as ImageService.pull for a damaged layer
   */
  unpack(link: ChainLink, blob: LayerDescriptor, signal: AbortSignal, options?: LayerOptions): Promise<boolean>

  /** Makes a writable snapshot of the layers. */
  prepare(key: SnapshotKey, layers: readonly ChainLink[], options?: PrepareOptions): Promise<RootMount>

  /** Makes a read-only snapshot of the layers: what is mounted of it cannot be written to. */
  view(key: SnapshotKey, layers: readonly ChainLink[], options?: { signal?: AbortSignal }): Promise<RootMount>

  /** The answer of `prepare` or `view` once more; what a reboot has taken (a device, say) is there again. */
  mount(key: SnapshotKey, layers: readonly ChainLink[]): Promise<RootMount>

  /**
   * Runs `work` with a copy of what a writable snapshot has changed, in layer form, which is gone afterwards; the snapshot goes on.
   * Whoever wants the changes as they were at one moment pauses the container.
   */
  changes<T>(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    work: (changes: Changes) => Promise<T>,
    options?: { signal?: AbortSignal },
  ): Promise<T>

  /**
   * Makes a layer of what a writable snapshot has changed. A copy of the changes is taken, in layer form; `describe` reads it, and
   * answers where it belongs, which it knows once it has the diff id of the tar. Then the layer is there, whole, or not at all; the
   * copy is gone either way, and the snapshot goes on. Whoever wants the changes as they were at one moment pauses the container.
   *
   * @throws what `describe` throws
   */
  commit(
    key: SnapshotKey,
    layers: readonly ChainLink[],
    describe: (changes: Changes) => Promise<ChainLink>,
    options?: { signal?: AbortSignal },
  ): Promise<ChainLink>

  /**
   * Runs `work` with the directories whose trees, in layer form and topmost first, make that of a writable snapshot. The container may
   * go on meanwhile, and what it does is seen or not.
   */
  read<T>(
    key: SnapshotKey,
    layers: readonly LayerDirectory[],
    work: (directories: readonly string[]) => Promise<T>,
  ): Promise<T>

  /**
   * What a writable snapshot takes on disk beside its layers: the file system's own account where it keeps one; else walks whose
   * results are shared for a while.
   */
  usage(key: SnapshotKey): Promise<SnapshotUsage>

  /** Takes the snapshot away. Nothing has it mounted any more. */
  remove(key: SnapshotKey): Promise<void>

  /** Once, when every container is known: takes away snapshots outside of their owners' directories whose owner does not live. */
  reconcile(living: ReadonlySet<string>): Promise<void>

  /** After layers were collected: drops what was made of layers whose directory names `present` does not hold. */
  collect(present: ReadonlySet<string>): Promise<void>

  /** Lets go of what this process holds; snapshots stay. */
  close(): Promise<void>
}

export interface LayerOptions {
  readonly arriving?: ArrivingBlob
}

/** What finds a layer that is unpacked. */
export type LayerDirectory = Pick<ChainLink, 'directory'>

export const snapshotterNames = ['overlay', 'native', 'erofs', 'devmapper'] as const
export type SnapshotterName = (typeof snapshotterNames)[number]

export interface SnapshotKey {
  /** Of the owner, a container: 64 hex digits. */
  readonly id: string
  /**
   * The owner's directory on the disk of the store, which the owner makes (0700), and removes after `remove`. The snapshotter keeps
   * what it has in `rootfs` below it, and needs none of it to be there in `remove`.
   */
  readonly directory: string
}

export interface PrepareOptions {
  /** Bytes that the container may write; 0: no bound. */
  readonly size?: number
  readonly signal?: AbortSignal
}

/**
 * What a container has changed, as a tree in layer form: overlayfs' whiteouts (character device 0:0) and opaque directories
 * (trusted.overlay.opaque=y), no other attribute of overlayfs; every file whole.
 */
export interface Changes {
  readonly directory: string
}

export interface SnapshotUsage {
  readonly bytes: number
  readonly inodes: number
}

/**
 * How a root file system is mounted: `rootfs` of compileContainer (docs/architecture.md, "Inputs of the compiler"). Where the pod has
 * a user namespace the stage idmaps it, so that nothing is chowned.
 */
export type RootMount = OverlayRoot | DirectoryRoot | DeviceRoot

/** An overlay of directories: the options are core/stage/root.cc's. */
export interface OverlayRoot {
  readonly kind: 'overlay'
  readonly layersRoot: string
  /** Names of directories below layersRoot, topmost first; 500 at most. */
  readonly lower: readonly string[]
  /** Indexes in `lower` of layers that are not unpacked: each is mounted over its own directory first. */
  readonly erofs?: readonly number[]
  /** Directory that holds upper/ and work/, on one file system; null: read-only. */
  readonly upper: string | null
  /** `upper` is a file with an ext4 file system, in which upper/ and work/ are. */
  readonly upperImage?: boolean
  /** Nothing is synced; after a crash of the host the upper directory is void. */
  readonly volatile?: boolean
}

/** A directory that is the whole tree. */
export interface DirectoryRoot {
  readonly kind: 'directory'
  readonly path: string
  readonly readonly: boolean
}

/** A file system on a block device: opened by its node, which must be of this very device. */
export interface DeviceRoot {
  readonly kind: 'device'
  readonly path: string
  readonly major: number
  readonly minor: number
  readonly type: 'ext4'
  readonly readonly: boolean
}
