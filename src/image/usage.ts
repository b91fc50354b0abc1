import { now } from '../clock.ts'
import type { Digest } from './digest.ts'

/** What one file system holds of the image store: CRI's FilesystemUsage. */
export interface FsInfo {
  /** Nanoseconds since the epoch. */
  readonly timestamp: bigint
  /** A directory on the file system. */
  readonly mountpoint: string
  /** Allocated bytes. */
  readonly usedBytes: number
  readonly inodesUsed: number
}

/**
 * Bytes and inodes that blobs and layers take on disk, as du(1) counts them, kept as they change: asking costs no look at the disk
 * (law 4).
 */
export class Usage {
  readonly #blobs = new Map<Digest, number>()
  readonly #layers = new Map<string, { bytes: number; inodes: number }>()
  #bytes = 0
  #inodes = 0

  setBlob(digest: Digest, bytes: number): void {
    this.dropBlob(digest)
    this.#blobs.set(digest, bytes)
    this.#bytes += bytes
    this.#inodes++
  }

  dropBlob(digest: Digest): void {
    const bytes = this.#blobs.get(digest)
    if (bytes === undefined) return
    this.#blobs.delete(digest)
    this.#bytes -= bytes
    this.#inodes--
  }

  /** @param key the layer's directory name */
  setLayer(key: string, layer: { bytes: number; inodes: number }): void {
    this.dropLayer(key)
    this.#layers.set(key, layer)
    this.#bytes += layer.bytes
    this.#inodes += layer.inodes
  }

  dropLayer(key: string): void {
    const layer = this.#layers.get(key)
    if (layer === undefined) return
    this.#layers.delete(key)
    this.#bytes -= layer.bytes
    this.#inodes -= layer.inodes
  }

  /** Bytes on disk of some blobs and layers, each counted once; what is not there counts nothing. */
  bytesOf(blobs: Iterable<Digest>, layers: Iterable<string>): number {
    let bytes = 0
    for (const digest of new Set(blobs)) bytes += this.#blobs.get(digest) ?? 0
    for (const key of new Set(layers)) bytes += this.#layers.get(key)?.bytes ?? 0
    return bytes
  }

  /** Directory names of layers that are counted. */
  layers(): string[] {
    return [...this.#layers.keys()]
  }

  /** Digests that are counted. */
  blobs(): Digest[] {
    return [...this.#blobs.keys()]
  }

  info(mountpoint: string): FsInfo {
    return {
      timestamp: now(),
      mountpoint,
      usedBytes: this.#bytes,
      inodesUsed: this.#inodes,
    }
  }
}
