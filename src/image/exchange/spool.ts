import { mkdir, readFile, rm } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { CaissonError } from '../../errors.ts'
import { digestMismatch, digestOfHex, type Digest } from '../digest.ts'
import { ArchiveReader, type ArchiveEntry } from './archive-reader.ts'
import { compressionOf, magicBytes } from './compression.ts'
import type { HashNative } from '../file-digest.ts'
import { writeHashed, type HashedFile } from './hashed-file.ts'
import { expandedBlob, type RecodeNative } from './native-blobs.ts'

/** Links of an archive that lead to links. */
const linkDepthMax = 8
const blobName = /^blobs\/sha256\/([0-9a-f]{64})$/

export interface SpoolOptions {
  native: RecodeNative & HashNative
  /** The archive, for messages. */
  what: string
  signal: AbortSignal
}

/**
 * The files of an archive of images, in a directory of the store's tmp/, each hashed as it came: which of them are of use, only the
 * whole archive tells, for its index may be its last file.
 */
export class Spool {
  readonly #what: string
  readonly #files = new Map<string, HashedFile>()
  readonly #links = new Map<string, string>()
  readonly #byDigest = new Map<Digest, HashedFile>()

  private constructor(what: string) {
    this.#what = what
  }

  /**
   * @param directory does not exist yet; the caller removes it
   * @throws CaissonError ERR_IMAGE_INVALID, ERR_DIGEST_MISMATCH, ERR_LAYER_INVALID
   */
  static async read(source: AsyncIterable<Uint8Array>, directory: string, options: SpoolOptions): Promise<Spool> {
    const { native, what, signal } = options
    await mkdir(directory, { mode: 0o700 })
    const { head, rest } = await begun(source)
    if (compressionOf(head) === 'none') return Spool.#unpack(rest, directory, options)
    const path = join(directory, 'archive')
    await writeHashed(native, path, rest, signal)
    const spool = await Spool.#unpack(expandedBlob(native, path, what, signal), directory, options)
    await rm(path)
    return spool
  }

  static async #unpack(source: AsyncIterable<Uint8Array>, directory: string, options: SpoolOptions): Promise<Spool> {
    const spool = new Spool(options.what)
    const reader = new ArchiveReader(source, options.what)
    for (let entry = await reader.next(); entry !== null; entry = await reader.next()) {
      if (entry.kind === 'file') await spool.#add(entry.name, await store(reader, entry, directory, options))
      else if (entry.kind !== 'directory') spool.#link(entry)
    }
    await reader.drain()
    return spool
  }

  async #add(name: string, file: HashedFile): Promise<void> {
    const known = this.#files.get(name)
    if (known !== undefined && known.digest !== file.digest) throw this.#twice(name)
    if (this.#links.has(name)) throw this.#twice(name)
    this.#files.set(name, file)
    if (this.#byDigest.has(file.digest)) await rm(file.path)
    else this.#byDigest.set(file.digest, file)
  }

  #link({ name, kind, target }: ArchiveEntry): void {
    // a hard link is named from the top, a symbolic one from where it stands
    const path = kind === 'link' ? posix.normalize(target) : posix.join(posix.dirname(name), target)
    if (target.startsWith('/') || path.startsWith('..')) {
      throw this.invalid(`${JSON.stringify(name)} is a link that leads out of it`)
    }
    if (this.#files.has(name) || (this.#links.get(name) ?? path) !== path) throw this.#twice(name)
    this.#links.set(name, path)
  }

  #twice(name: string): CaissonError {
    return this.invalid(`${JSON.stringify(name)} is in it twice, with different contents`)
  }

  invalid(why: string): CaissonError {
    return new CaissonError('ERR_IMAGE_INVALID', `${this.#what}: ${why}`)
  }

  /** The file of a name, through links of the archive; null when there is none. */
  find(name: string): HashedFile | null {
    let path = posix.normalize(name)
    for (let depth = 0; depth <= linkDepthMax; depth++) {
      const target = this.#links.get(path)
      // one content has one file, whatever its names
      const found = this.#files.get(path)
      if (target === undefined) return found === undefined ? null : (this.#byDigest.get(found.digest) ?? null)
      path = target
    }
    throw this.invalid(`${JSON.stringify(name)}: links that lead to more than ${linkDepthMax} links`)
  }

  /** @throws CaissonError ERR_IMAGE_INVALID when it is missing */
  require(name: string): HashedFile {
    const file = this.find(name)
    if (file === null) throw this.invalid(`${JSON.stringify(name.slice(0, 200))} is missing`)
    return file
  }

  /** By content, whatever its name. */
  blob(digest: Digest): HashedFile | null {
    return this.#byDigest.get(digest) ?? null
  }

  /** A small file whole. @throws CaissonError ERR_IMAGE_INVALID when it is larger than `limit` bytes */
  async readSmall(file: HashedFile, limit: number, name: string): Promise<Buffer> {
    if (file.size > limit) throw this.invalid(`${name} has ${file.size} bytes, more than the limit of ${limit}`)
    return readFile(file.path)
  }
}

/** The first bytes, and the stream from its beginning. */
async function begun(source: AsyncIterable<Uint8Array>): Promise<{ head: Buffer; rest: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]()
  let head = Buffer.alloc(0)
  while (head.length < magicBytes) {
    const step = await iterator.next()
    if (step.done === true) break
    head = Buffer.concat([head, step.value])
  }
  async function* rest(): AsyncGenerator<Uint8Array, void, undefined> {
    yield head
    for (;;) {
      const step = await iterator.next()
      if (step.done === true) return
      yield step.value
    }
  }
  return { head, rest: rest() }
}

let counter = 0

async function store(
  reader: ArchiveReader,
  { name }: ArchiveEntry,
  directory: string,
  { native, what, signal }: SpoolOptions,
): Promise<HashedFile> {
  const file = await writeHashed(native, join(directory, `file-${counter++}`), reader.content(), signal)
  const promised = blobName.exec(name)?.[1]
  if (promised !== undefined && digestOfHex(promised) !== file.digest) {
    throw digestMismatch(`${what}: ${name}`, digestOfHex(promised), file.digest)
  }
  return file
}
