import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { CaissonError } from '../errors.ts'
import { hexOf, type Digest } from './digest.ts'
import { readIndexFile } from './index-file.ts'
import { JsonCursor } from './json.ts'
import { manifestSizeMax, type Descriptor } from './manifest.ts'
import type { ImageSource, ResolvedImage } from './source.ts'

/** An OCI image layout directory as a source: what `skopeo copy … oci:dir` or a build writes. */
export class LayoutSource implements ImageSource {
  readonly label: string
  readonly #directory: string
  readonly #reference: string | undefined

  /** @param reference the entry's name in the layout; may be left out when there is but one image */
  constructor(directory: string, reference?: string) {
    this.label = reference === undefined ? directory : `${directory}:${reference}`
    this.#directory = directory
    this.#reference = reference
  }

  async resolve(): Promise<ResolvedImage> {
    const marker = JsonCursor.parse(await this.#read('oci-layout', 4096), join(this.#directory, 'oci-layout'), 4096)
    const version = marker.require('imageLayoutVersion').string(64)
    if (!version.startsWith('1.')) {
      throw new CaissonError('ERR_IMAGE_UNSUPPORTED', `${this.#directory}: image layout version ${version} is not 1`)
    }
    const entries = await readIndexFile(join(this.#directory, 'index.json'))
    const fits = this.#reference === undefined ? entries : entries.filter(({ name }) => name === this.#reference)
    const [entry, other] = fits
    if (entry === undefined)
      throw new CaissonError('ERR_IMAGE_NOT_FOUND', `there is no such image in layout ${this.label}`)
    if (other !== undefined && other.digest !== entry.digest) {
      const names = entries.slice(0, 20).map(({ name, digest }) => name || digest)
      throw new CaissonError(
        'ERR_IMAGE_REFERENCE',
        `layout ${this.label} holds several images, choose one of: ${names.join(', ')}`,
      )
    }
    return { digest: entry.digest, mediaType: entry.mediaType, body: null }
  }

  async manifest(digest: Digest): Promise<{ body: Buffer; mediaType: string }> {
    return { body: await this.#read(join('blobs', 'sha256', hexOf(digest)), manifestSizeMax), mediaType: '' }
  }

  async blob(descriptor: Descriptor, _signal: AbortSignal, offset = 0): Promise<Readable> {
    const file = await this.#open(join('blobs', 'sha256', hexOf(descriptor.digest)))
    return file.createReadStream({ highWaterMark: 256 << 10, start: offset })
  }

  async #open(name: string): Promise<FileHandle> {
    const path = join(this.#directory, name)
    try {
      return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
      throw new CaissonError('ERR_IMAGE_INVALID', `image layout ${this.#directory}: ${name} is missing`, { cause })
    }
  }

  async #read(name: string, limit: number): Promise<Buffer> {
    const file = await this.#open(name)
    try {
      const { size } = await file.stat()
      if (size > limit) {
        throw new CaissonError(
          'ERR_IMAGE_INVALID',
          `image layout ${this.#directory}: ${name} has ${size} bytes, more than the limit of ${limit}`,
        )
      }
      return await file.readFile()
    } finally {
      await file.close()
    }
  }
}
