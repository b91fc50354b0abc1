import { createHash } from 'node:crypto'
import { mkdir, open, readFile, rm } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { CaissonError } from '../../errors.ts'
import { digestMismatch, digestOfHex, type Digest } from '../digest.ts'
import type { LayerCompression } from '../media-types.ts'
import { ArchiveReader, type ArchiveEntry } from './archive-reader.ts'
import { expandedBlob, type RecodeNative } from './native-blobs.ts'

const gzipMagic = Buffer.from([0x1f, 0x8b])
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])
const magicBytes = 4
/** Links of an archive that lead to links. */
const linkDepthMax = 8
const blobName = /^blobs\/sha256\/([0-9a-f]{64})$/

/** A file of an archive, on disk. */
export interface SpooledFile {
  readonly path: string
  readonly size: number
  readonly digest: Digest
  readonly compression: LayerCompression
}

/** What compression the first bytes of a file tell of; media types may be wrong or absent. */
export function compressionOf(head: Buffer): LayerCompression {
  if (head.subarray(0, gzipMagic.length).equals(gzipMagic)) return 'gzip'
  if (head.subarray(0, zstdMagic.length).equals(zstdMagic)) return 'zstd'
  return 'none'
}

/**
 * The files of an archive of images, in a directory of the store's tmp/, each hashed as it came: which of them are of use, only the
 * whole archive tells, for its index may be its last file.
 */
export class Spool {
  readonly #what: string
  readonly #files = new Map<string, SpooledFile>()
  readonly #links = new Map<string, string>()
  readonly #byDigest = new Map<Digest, SpooledFile>()

  private constructor(what: string) {
    this.#what = what
  }

  /**
   * @param directory does not exist yet; the caller removes it
   * @throws CaissonError ERR_IMAGE_INVALID, ERR_DIGEST_MISMATCH, ERR_LAYER_INVALID
   */
  static async read(
    source: AsyncIterable<Uint8Array>,
    directory: string,
    { native, what, signal }: { native: RecodeNative; what: string; signal: AbortSignal },
  ): Promise<Spool> {
    await mkdir(directory, { mode: 0o700 })
    const { head, rest } = await begun(source)
    if (compressionOf(head) === 'none') return Spool.#unpack(rest, directory, what, signal)
    const path = join(directory, 'archive')
    await writeThrough(rest, path, signal)
    const spool = await Spool.#unpack(expandedBlob(native, path, what, signal), directory, what, signal)
    await rm(path)
    return spool
  }

  static async #unpack(
    source: AsyncIterable<Uint8Array>,
    directory: string,
    what: string,
    signal: AbortSignal,
  ): Promise<Spool> {
    const spool = new Spool(what)
    const reader = new ArchiveReader(source, what)
    for (let entry = await reader.next(); entry !== null; entry = await reader.next()) {
      if (entry.kind === 'file') await spool.#add(entry.name, await store(reader, entry, directory, what, signal))
      else if (entry.kind !== 'directory') spool.#link(entry)
    }
    await reader.drain()
    return spool
  }

  async #add(name: string, file: SpooledFile): Promise<void> {
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
  find(name: string): SpooledFile | null {
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
  require(name: string): SpooledFile {
    const file = this.find(name)
    if (file === null) throw this.invalid(`${JSON.stringify(name.slice(0, 200))} is missing`)
    return file
  }

  /** By content, whatever its name. */
  blob(digest: Digest): SpooledFile | null {
    return this.#byDigest.get(digest) ?? null
  }

  /** A small file whole. @throws CaissonError ERR_IMAGE_INVALID when it is larger than `limit` bytes */
  async readSmall(file: SpooledFile, limit: number, name: string): Promise<Buffer> {
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

async function writeThrough(source: AsyncIterable<Uint8Array>, path: string, signal: AbortSignal): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    for await (const chunk of source) {
      signal.throwIfAborted()
      await file.writeFile(chunk)
    }
  } finally {
    await file.close()
  }
}

let counter = 0

async function store(
  reader: ArchiveReader,
  { name, size }: ArchiveEntry,
  directory: string,
  what: string,
  signal: AbortSignal,
): Promise<SpooledFile> {
  const path = join(directory, `file-${counter++}`)
  const hash = createHash('sha256')
  let head = Buffer.alloc(0)
  const file = await open(path, 'wx', 0o600)
  try {
    for await (const chunk of reader.content()) {
      signal.throwIfAborted()
      hash.update(chunk)
      if (head.length < magicBytes) head = Buffer.concat([head, chunk.subarray(0, magicBytes)])
      await file.writeFile(chunk)
    }
  } finally {
    await file.close()
  }
  const digest = digestOfHex(hash.digest('hex'))
  const promised = blobName.exec(name)?.[1]
  if (promised !== undefined && digestOfHex(promised) !== digest) {
    throw digestMismatch(`${what}: ${name}`, digestOfHex(promised), digest)
  }
  return { path, size, digest, compression: compressionOf(head) }
}
