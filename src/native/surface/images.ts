import type { NativeFd } from './handles.ts'

export interface LayerLimits {
  /** Entries in one layer. */
  maxEntries: number
  /** Bytes of file content in one layer. */
  maxBytes: number
}

/**
 * Bytes of a block of a layer's EROFS index: 512, it points into the archive, which is kept as it is (Linux 6.4); 4096, it holds the
 * files' content.
 */
export type ErofsBlock = 512 | 4096

export interface LayerStats {
  entries: number
  /** Bytes of regular files. */
  bytes: number
  /** Attributes `user.*` left out because the file system has none (tmpfs before Linux 6.6); others are an error. */
  xattrsLeftOut: number
  /**
   * The layer hides everything below it (`.wh..wh..opq` at its top). overlayfs does not look at the mark on the root of a
   * lower layer: whoever stacks layers ends the stack at this one.
   */
  opaqueRoot: boolean
  /** So many directories, at most, that no entry of the layer describes, where it `inherits`: beside the root. */
  implied: number
  /** Whether no entry of the layer describes its root, where it `inherits`. */
  impliedRoot: boolean
}

export interface ExpansionLimits {
  /** Bytes of the uncompressed archive. */
  maxExpanded: number
  /** Uncompressed bytes per byte of the blob, once more than `ratioFloor` bytes have come out. Deflate's own limit is 1032. */
  maxRatio: number
  ratioFloor: number
}

/** How far a blob has come: for `unpackLayer`, which waits for what is missing. */
export type BlobGrowth = object & { readonly __blobGrowth: never }

/** One call at a time, each after the one before it; after a failure none. */
export interface BlobWriter {
  readonly growth: BlobGrowth
  /** Takes `step` bytes more, at most, of what the file holds into the hash. @returns how many there are in it; no more: that is all */
  resume(step: number): Promise<number>
  /**
   * Writes the chunks after what is in the hash. They stay as they are until it is done.
   *
   * @param own nobody has a use for the chunks afterwards: their memory is given back at once, so that no collection of V8's is due for it
   * @returns how many bytes there are
   */
  append(chunks: readonly Buffer[], own: boolean): Promise<number>
  /** The SHA-256 of all, 64 lower-case hex digits; the last call but `close`. */
  digest(): string
  /** Lets go of the file, at once or when the step that is on its way is done. Who follows its growth takes it for whole. */
  close(): void
}

/** A blob that was written, or only measured. */
export interface RecodedBlob {
  /** SHA-256 of the uncompressed bytes, in hex. */
  diffId: string
  /** SHA-256 of what was written, in hex. */
  digest: string
  /** Bytes that were written. */
  size: number
  /** Bytes uncompressed. */
  expanded: number
}

export interface UnpackedLayer extends LayerStats {
  /** SHA-256 of the uncompressed archive, in hex. */
  diffId: string
  /** Its bytes. */
  expanded: number
}

/** A device of device mapper: `/dev/dm-<minor>`. */
export interface MapperDevice {
  major: number
  minor: number
  suspended: boolean
  /** What its target says of itself. */
  status: string
}

/** @returns whether the layer is whole */
export type Settle = (below: readonly number[], all: boolean) => Promise<boolean>

/** Layers, blobs and the file systems that they become. */
export interface NativeImages {
  /**
   * A detached mount of the file system on a regular file, through a loop device that goes with the mount; a file that has one shares
   * it.
   */
  mountImage(path: string, type: string): Promise<NativeFd>
  /** A detached mount of the file system on a block device; rejects with ENODEV when the node is another device's. */
  mountDevice(path: string, major: number, minor: number, type: string, readonly: boolean): Promise<NativeFd>

  /**
   * A detached read-only mount of a layer that `unpackLayer` has indexed; from its files, or through loop devices where the kernel or
   * their file system asks for them. Rejects with ENODEV: no EROFS in the kernel; EINVAL: no blocks of this size, or damaged.
   */
  mountErofs(directory: number): Promise<NativeFd>

  /** Makes, loads and resumes a device of device mapper with one target; rejects with EBUSY when the name is taken. */
  mapperCreate(name: string, sectors: number, type: string, params: string, readonly: boolean): Promise<MapperDevice>
  /** Null: there is none. */
  mapperStatus(name: string): Promise<MapperDevice | null>
  /** Absent is fine; rejects with EBUSY while it is open. */
  mapperRemove(name: string): Promise<void>
  mapperMessage(name: string, message: string): Promise<void>
  /** Freezes a device with its file system, or lets it go on. */
  mapperSuspend(name: string, suspend: boolean): Promise<void>
  /** Of a block device's node. */
  blockSize(path: string): Promise<{ bytes: number; major: number; minor: number }>

  /** Writes a blob to a file, from its beginning on, and hashes it, off the event loop; the descriptor stays the caller's. */
  blobWriter(file: number): BlobWriter

  /**
   * Applies a layer blob to a directory, safely: whiteouts become overlayfs' own. With `erofsBlock` the directory gets, instead of
   * the tree, what `mountErofs` makes the same tree of. gzip, zstd or uncompressed, as its first bytes say;
   * decompressed and hashed in one thread, applied in another, both its own. With `growth` the blob is still being written, and what is
   * missing is waited for. Rejects with EBADMSG (damaged), EFBIG (over a limit; syscall `expand` for those of the expansion), ECANCELED
   * after `abort`, and what the disk says.
   *
   * With `inherits` there are layers below, and the layer is whole only after `settle`: directories that it has without an entry for
   * them become what those layers say of them. `below` are the trees of some of them, topmost first, each whole, or of `all`. False:
   * it is to be called again, with more. It rejects with EALREADY where there is nothing to settle, or not yet; `abort` lets go of what
   * is not going to be.
   */
  unpackLayer(
    blob: number,
    directory: number,
    options: LayerLimits & ExpansionLimits & { erofsBlock?: ErofsBlock; growth?: BlobGrowth; inherits?: boolean },
  ): { done: Promise<UnpackedLayer>; abort: () => void; settle: Settle }
  /**
   * Writes a blob (gzip, zstd or uncompressed, as its first bytes say) to a descriptor, uncompressed or as gzip, by a thread of its own;
   * its end closes its copy of `to`. `to` null: it is only measured. Rejects as `unpackLayer`, and with EPIPE where nobody reads.
   */
  recodeBlob(
    from: number,
    to: number | null,
    options: ExpansionLimits & { gzip: boolean },
  ): { done: Promise<RecodedBlob>; abort: () => void }
  /**
   * Writes the tree that layers in overlayfs' form (topmost first) make as a tar (core/pack/pack_tree.h), by a thread of its own, as
   * `recodeBlob` does. `layer`: the topmost alone, with whiteouts and opaque markers as image-spec layer.md has them; what is left out
   * of the archive is removed from it. `exclude`: paths below the top, without a leading slash.
   */
  packTree(
    directories: readonly number[],
    to: number | null,
    options: { gzip: boolean; layer: boolean; exclude: readonly string[] },
  ): { done: Promise<RecodedBlob>; abort: () => void }
}
