import { constants } from 'node:fs'
import { open, readdir, readFile, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { CaissonError } from '../errors.ts'
import { ifPresent } from '../files.ts'
import type { BlobGrowth, BlobWriter, Native } from '../native/types.ts'
import { writeAtomically } from './atomic-file.ts'
import { BatchWriter } from './batch-writer.ts'
import { digestMismatch, digestOfHex, hexOf, isDigest, verifyDigest, type Digest } from './digest.ts'
import { hashBegun } from './file-digest.ts'
import { withLockFile } from './lock.ts'
import type { Descriptor } from './manifest.ts'
import type { ImagePaths } from './paths.ts'
import type { Trash } from './trash.ts'
import type { Usage } from './usage.ts'
import type { Workspace } from './workspace.ts'

/** Of st_blocks: stat(3type). */
const blockBytes = 512
/** What has come is written after this time at the latest: a killed pull goes on from there. */
const writtenWithinMs = 50
/** A blob on its way: blob-<hex> in tmp/. */
const partialPattern = /^blob-([0-9a-f]{64})$/

/** A blob on its way, which can be read as it comes: nothing of it is verified. */
export interface GrowingBlob {
  readonly path: string
  readonly growth: BlobGrowth
}

export interface ObtainOptions {
  readonly what: string
  readonly signal: AbortSignal
  /** How many bytes are there. */
  readonly onBytes?: (received: number) => void
  /** Its bytes begin to come; of a transfer that turns out to be torn, not once more. */
  readonly onGrowing?: (blob: GrowingBlob) => void
}

/** Content by digest: `blobs/sha256` of the layout. A blob is seen whole and verified, or not at all. */
export class BlobStore {
  readonly #native: Pick<Native, 'blobWriter' | 'lockFile'>
  readonly #paths: ImagePaths
  readonly #workspace: Workspace
  readonly #usage: Usage

  constructor(parts: {
    native: Pick<Native, 'blobWriter' | 'lockFile'>
    paths: ImagePaths
    workspace: Workspace
    usage: Usage
  }) {
    this.#native = parts.native
    this.#paths = parts.paths
    this.#workspace = parts.workspace
    this.#usage = parts.usage
  }

  /** Whether the blob is on disk with the size it should have: a power cut can leave a shorter one. */
  async has(descriptor: Pick<Descriptor, 'digest' | 'size'>): Promise<boolean> {
    return (await this.size(descriptor.digest)) === descriptor.size
  }

  /** Its length in bytes, or null when absent. */
  async size(digest: Digest): Promise<number | null> {
    return (await ifPresent(stat(this.#paths.blob(digest))))?.size ?? null
  }

  /**
   * A small blob whole, verified; null when it is absent, be it that it goes while it is asked for.
   *
   * @throws CaissonError ERR_IMAGE_INVALID when over the limit, ERR_DIGEST_MISMATCH when damaged
   */
  async find(digest: Digest, limit: number, what: string): Promise<Buffer | null> {
    const size = await this.size(digest)
    if (size === null) return null
    if (size > limit)
      throw new CaissonError('ERR_IMAGE_INVALID', `${what}: ${size} bytes, more than the limit of ${limit}`)
    const data = await ifPresent(readFile(this.#paths.blob(digest)))
    if (data !== null) verifyDigest(data, digest, what)
    return data
  }

  /** The same for a blob that must be there. @throws CaissonError ERR_IMAGE_INVALID when absent */
  async read(digest: Digest, limit: number, what: string): Promise<Buffer> {
    const data = await this.find(digest, limit, what)
    if (data === null) throw new CaissonError('ERR_IMAGE_INVALID', `${what}: blob ${digest} is not in the store`)
    return data
  }

  async write(digest: Digest, data: Buffer, what: string): Promise<void> {
    verifyDigest(data, digest, what)
    await writeAtomically(this.#paths.blob(digest), data, this.#workspace.path())
    await this.#count(digest)
  }

  /**
   * Brings a blob in as it arrives, checking size and digest on the way; ends the stream as soon as it is longer than announced.
   * Calls for one blob share the work, across processes too. It goes on where an earlier transfer ended: what that left, in tmp/, is
   * read again for its digest, and only the rest is asked for. What a failure leaves there goes with the lease that names the blob.
   *
   * @param source the bytes from `offset` on, in chunks that nobody else has a use for
   * @throws CaissonError ERR_DIGEST_MISMATCH
   */
  async obtain(
    expected: Pick<Descriptor, 'digest' | 'size'>,
    source: (offset: number) => Promise<AsyncIterable<Buffer>>,
    options: ObtainOptions,
  ): Promise<void> {
    const lockFile = join(this.#paths.locks, `blob-${hexOf(expected.digest)}`)
    await withLockFile(this.#native, lockFile, options.signal, async () => {
      // it may have come by another way since its transfer was interrupted
      if (await this.has(expected)) return this.removePartial(expected.digest)
      const begun = await this.#transfer(expected, source, options)
      // what was begun was not what the digest promises: a power cut may have torn it
      if (begun === 'torn') await this.#transfer(expected, source, { ...options, onGrowing: () => undefined })
      await this.#count(expected.digest)
    })
  }

  /** Takes over a file of the store's disk whose content was verified; the calls for one blob share nothing. */
  async adopt(digest: Digest, path: string): Promise<void> {
    await rename(path, this.#paths.blob(digest))
    await this.#count(digest)
  }

  async #transfer(
    { digest, size }: Pick<Descriptor, 'digest' | 'size'>,
    source: (offset: number) => Promise<AsyncIterable<Buffer>>,
    { what, signal, onBytes, onGrowing }: ObtainOptions,
  ): Promise<'whole' | 'torn'> {
    const partial = this.#partial(digest)
    const file = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o600)
    const writer = this.#native.blobWriter(file.fd)
    let begun: number
    try {
      begun = await resume(file, size, writer, signal)
      // a stream of nothing may be refused as a range that cannot be satisfied
      if (begun < size || size === 0) {
        const chunks = await source(begun)
        onGrowing?.({ path: partial, growth: writer.growth })
        const received = await take(writer, chunks, { begun, size, what, onBytes })
        if (received < size) throw wrongSize(what, `${received} instead of the ${size}`)
      }
    } catch (error) {
      if (error instanceof CaissonError && error.code === 'ERR_DIGEST_MISMATCH') await rm(partial, { force: true })
      throw error
    } finally {
      writer.close()
      await file.close()
    }
    const actual = digestOfHex(writer.digest())
    if (actual === digest) {
      await rename(partial, this.#paths.blob(digest))
      return 'whole'
    }
    await rm(partial, { force: true })
    if (begun === 0) throw digestMismatch(what, digest, actual)
    return 'torn'
  }

  #partial(digest: Digest): string {
    return join(this.#paths.tmp, `blob-${hexOf(digest)}`)
  }

  async list(): Promise<Digest[]> {
    return (await readdir(this.#paths.blobs)).map(digestOfHex).filter(isDigest)
  }

  /** Blobs that were begun and are not whole. */
  async partials(): Promise<Digest[]> {
    const names = await readdir(this.#paths.tmp)
    return names.flatMap((name) => {
      const hex = partialPattern.exec(name)?.[1]
      return hex === undefined ? [] : [digestOfHex(hex)]
    })
  }

  async removePartial(digest: Digest): Promise<void> {
    await rm(this.#partial(digest), { force: true })
  }

  async remove(digest: Digest, trash: Trash): Promise<void> {
    await trash.take(this.#paths.blob(digest))
    this.#usage.dropBlob(digest)
  }

  /** Counts what is on disk, where other processes write as well. */
  async measure(): Promise<void> {
    for (const digest of new Set([...(await this.list()), ...this.#usage.blobs()])) await this.#count(digest)
  }

  async #count(digest: Digest): Promise<void> {
    const found = await ifPresent(stat(this.#paths.blob(digest)))
    if (found === null) this.#usage.dropBlob(digest)
    else this.#usage.setBlob(digest, found.blocks * blockBytes)
  }
}

/** What is there goes into the hash; more than there can be is thrown away. @returns its length */
async function resume(file: FileHandle, size: number, writer: BlobWriter, signal: AbortSignal): Promise<number> {
  const { size: begun } = await file.stat()
  if (begun > size) {
    await file.truncate(0)
    return 0
  }
  return hashBegun(writer, begun, signal)
}

/** Writes in the background what has come, while more comes. @returns how many bytes there are */
async function take(
  writer: BlobWriter,
  chunks: AsyncIterable<Buffer>,
  {
    begun,
    size,
    what,
    onBytes,
  }: { begun: number; size: number; what: string; onBytes: ((received: number) => void) | undefined },
): Promise<number> {
  let received = begun
  const batches = new BatchWriter(writer, { withinMs: writtenWithinMs, own: true })
  try {
    for await (const chunk of chunks) {
      received += chunk.length
      if (received > size) throw wrongSize(what, `more than the ${size}`)
      await batches.add(chunk)
      onBytes?.(received)
    }
    return received
  } finally {
    // after a failure too: the next attempt goes on from there
    await batches.end()
  }
}

function wrongSize(what: string, got: string): CaissonError {
  return new CaissonError('ERR_DIGEST_MISMATCH', `${what}: the content has ${got} bytes announced`)
}
