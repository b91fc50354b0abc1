import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { CaissonError } from '../errors.ts'
import { digestMismatch, digestOfHex, isDigest, verifyDigest, type Digest } from './digest.ts'
import type { Descriptor } from './manifest.ts'
import type { ImagePaths } from './paths.ts'
import type { Trash } from './trash.ts'
import type { Usage } from './usage.ts'
import type { Workspace } from './workspace.ts'

/** Content by digest: `blobs/sha256` of the layout. A blob is seen whole and verified, or not at all. */
export class BlobStore {
  readonly #paths: ImagePaths
  readonly #workspace: Workspace
  readonly #usage: Usage

  constructor(paths: ImagePaths, workspace: Workspace, usage: Usage) {
    this.#paths = paths
    this.#workspace = workspace
    this.#usage = usage
  }

  /** Whether the blob is on disk with the size it should have: a power cut can leave a shorter one. */
  async has(descriptor: Pick<Descriptor, 'digest' | 'size'>): Promise<boolean> {
    return (await this.size(descriptor.digest)) === descriptor.size
  }

  /** Bytes on disk, or null when absent. */
  async size(digest: Digest): Promise<number | null> {
    try {
      return (await stat(this.#paths.blob(digest))).size
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
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
    let data: Buffer
    try {
      data = await readFile(this.#paths.blob(digest))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    verifyDigest(data, digest, what)
    return data
  }

  /** The same for a blob that must be there. @throws CaissonError ERR_IMAGE_INVALID when absent */
  async read(digest: Digest, limit: number, what: string): Promise<Buffer> {
    const data = await this.find(digest, limit, what)
    if (data === null) throw new CaissonError('ERR_IMAGE_INVALID', `${what}: blob ${digest} is not in the store`)
    return data
  }

  stream(digest: Digest): Readable {
    return createReadStream(this.#paths.blob(digest), { highWaterMark: 256 << 10 })
  }

  async write(digest: Digest, data: Buffer, what: string): Promise<void> {
    verifyDigest(data, digest, what)
    async function* chunks(): AsyncGenerator<Buffer> {
      yield await Promise.resolve(data)
    }
    await this.ingest({ digest, size: data.length }, chunks(), { what })
  }

  /**
   * Takes a blob in as it arrives, checking size and digest on the way; ends the stream as soon as it is longer than announced.
   *
   * @throws CaissonError ERR_DIGEST_MISMATCH
   */
  async ingest(
    expected: Pick<Descriptor, 'digest' | 'size'>,
    chunks: AsyncIterable<Buffer>,
    options: { what: string; onBytes?: (received: number) => void },
  ): Promise<void> {
    const { digest, size } = expected
    const draft = this.#workspace.path()
    const hash = createHash('sha256')
    let received = 0
    try {
      const file = await open(draft, 'wx', 0o600)
      try {
        for await (const chunk of chunks) {
          received += chunk.length
          if (received > size) throw wrongSize(options.what, `more than the ${size}`)
          hash.update(chunk)
          await file.writeFile(chunk)
          options.onBytes?.(received)
        }
      } finally {
        await file.close()
      }
      if (received < size) throw wrongSize(options.what, `${received} instead of the ${size}`)
      const actual = digestOfHex(hash.digest('hex'))
      if (actual !== digest) throw digestMismatch(options.what, digest, actual)
      await rename(draft, this.#paths.blob(digest))
    } catch (error) {
      await rm(draft, { force: true })
      throw error
    }
    this.#usage.setBlob(digest, size)
  }

  async list(): Promise<Digest[]> {
    return (await readdir(this.#paths.blobs)).map(digestOfHex).filter(isDigest)
  }

  async remove(digest: Digest, trash: Trash): Promise<void> {
    await trash.take(this.#paths.blob(digest))
    this.#usage.dropBlob(digest)
  }

  /** Counts what is on disk, where other processes write as well. */
  async measure(): Promise<void> {
    for (const digest of new Set([...(await this.list()), ...this.#usage.blobs()])) {
      const size = await this.size(digest)
      if (size === null) this.#usage.dropBlob(digest)
      else this.#usage.setBlob(digest, size)
    }
  }
}

function wrongSize(what: string, got: string): CaissonError {
  return new CaissonError('ERR_DIGEST_MISMATCH', `${what}: the content has ${got} bytes announced`)
}
