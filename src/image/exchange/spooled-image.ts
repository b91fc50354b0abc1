import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { CaissonError } from '../../errors.ts'
import type { Digest } from '../digest.ts'
import { manifestSizeMax, type Descriptor } from '../manifest.ts'
import type { ImageSource, ResolvedImage } from '../source.ts'
import type { HashedFile } from './hashed-file.ts'
import type { Spool } from './spool.ts'

/** One image of an archive that is on disk, as a source. */
export class SpooledImage implements ImageSource {
  readonly label: string
  readonly #spool: Spool
  readonly #root: Descriptor
  readonly #made: ReadonlyMap<Digest, Buffer>

  constructor(spool: Spool, root: Descriptor, made: ReadonlyMap<Digest, Buffer>, label: string) {
    this.#spool = spool
    this.#root = root
    this.#made = made
    this.label = label
  }

  async resolve(): Promise<ResolvedImage> {
    return { digest: this.#root.digest, mediaType: this.#root.mediaType, body: null }
  }

  async manifest(digest: Digest): Promise<{ body: Buffer; mediaType: string }> {
    const body = await this.read(digest)
    if (body === null) throw this.#missing(digest)
    return { body, mediaType: '' }
  }

  /** A document; null when the archive does not have it. */
  async read(digest: Digest): Promise<Buffer | null> {
    const made = this.#made.get(digest)
    if (made !== undefined) return made
    const file = this.#spool.blob(digest)
    return file === null ? null : this.#spool.readSmall(file, manifestSizeMax, `manifest ${digest}`)
  }

  async blob(descriptor: Descriptor, _signal: AbortSignal, offset = 0): Promise<Readable> {
    return createReadStream(this.file(descriptor).path, { start: offset })
  }

  async take(descriptor: Descriptor): Promise<string> {
    return this.file(descriptor).path
  }

  has(digest: Digest, size: number): boolean {
    return this.#spool.blob(digest)?.size === size
  }

  /** @throws CaissonError ERR_IMAGE_INVALID when it is missing, or not as long as the manifest says */
  file(descriptor: Descriptor): HashedFile {
    const file = this.#spool.blob(descriptor.digest)
    if (file === null) throw this.#missing(descriptor.digest)
    if (file.size === descriptor.size) return file
    throw new CaissonError(
      'ERR_IMAGE_INVALID',
      `image "${this.label}": blob ${descriptor.digest} has ${file.size} bytes, its manifest says ${descriptor.size}`,
    )
  }

  #missing(digest: Digest): CaissonError {
    return new CaissonError('ERR_IMAGE_INVALID', `image "${this.label}": blob ${digest} is not in the archive`)
  }
}
