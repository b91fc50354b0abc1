import { CaissonError } from '../../errors.ts'
import { blockSize, checksum, headerNumber, headerText, padding, type EntryKind } from './archive-format.ts'

export interface ArchiveEntry {
  /** Relative, without `.` and `..`. */
  readonly name: string
  readonly kind: EntryKind
  /** Of links: as it is in the archive. */
  readonly target: string
  /** Bytes of a file's content. */
  readonly size: number
}

/** Files of an archive: a save of 64 images of 500 layers stays below it. */
const entriesMax = 65_536
const nameMax = 4096
/** Extended headers, and GNU's long names. */
const extensionMax = 64 << 10
/** A file of an archive: a layer. */
const fileSizeMax = 2 ** 40

/** Reads an archive of images as it comes. The content is hostile; every size is bounded. */
export class ArchiveReader {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #what: string
  #buffered: Buffer = Buffer.alloc(0)
  /** Bytes of the entry's content, then of its padding, that are still to come. */
  #content = 0
  #padding = 0
  #entries = 0

  /** @param what the archive, for messages */
  constructor(source: AsyncIterable<Uint8Array>, what: string) {
    this.#source = source[Symbol.asyncIterator]()
    this.#what = what
  }

  /**
   * The next entry; what was not read of the one before is passed over. Null: the end.
   *
   * @throws CaissonError ERR_IMAGE_INVALID
   */
  async next(): Promise<ArchiveEntry | null> {
    const left = this.content()
    while ((await left.next()).done !== true);
    let name: string | undefined
    let target: string | undefined
    let size: number | undefined
    for (;;) {
      const header = await this.#block()
      if (header === null) return null
      if (++this.#entries > entriesMax) throw this.#invalid(`more than ${entriesMax} entries`)
      const own = headerNumber(header.subarray(124, 136))
      if (own === null || headerNumber(header.subarray(148, 156)) !== checksum(header)) throw this.#damaged()
      const flag = String.fromCharCode(header[156] ?? 0)
      if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
        const text = await this.#extension(own)
        if (flag === 'L') name = headerText(text)
        else if (flag === 'K') target = headerText(text)
        else if (flag === 'x') {
          const records = paxRecords(text)
          if (records === null) throw this.#damaged()
          name = records.get('path') ?? name
          target = records.get('linkpath') ?? target
          const given = records.get('size')
          if (given !== undefined) size = /^\d{1,15}$/.test(given) ? Number(given) : Number.NaN
          if ([...records.keys()].some((key) => key.startsWith('GNU.sparse.'))) throw this.#invalid('a sparse file')
        }
        continue
      }
      return this.#entry(flag, header, { name, target, size: size ?? own })
    }
  }

  #entry(
    flag: string,
    header: Buffer,
    given: { name: string | undefined; target: string | undefined; size: number },
  ): ArchiveEntry {
    const name = this.#path(given.name ?? ustarName(header))
    const kind = kindOf(flag, name)
    if (kind === null) throw this.#invalid(`${shown(name)} is of type ${shown(flag)}, which no archive of images has`)
    const { size } = given
    if (!Number.isSafeInteger(size) || size > fileSizeMax) {
      throw this.#invalid(`${shown(name)}: a size of ${size} bytes, and ${fileSizeMax} is the limit`)
    }
    // what is no file has no content, whatever its header says of the file that it links to
    const content = kind === 'file' ? size : 0
    this.#content = content
    this.#padding = padding(content)
    const target = given.target ?? headerText(header.subarray(157, 257))
    if (target.length > nameMax) throw this.#invalid(`${shown(name)}: a link of more than ${nameMax} characters`)
    return { name: name.replace(/\/$/, ''), kind, target, size: content }
  }

  /** The content of the entry, as it comes. */
  async *content(): AsyncGenerator<Buffer, void, undefined> {
    while (this.#content > 0) {
      if (this.#buffered.length === 0 && !(await this.#fill())) throw this.#truncated()
      const chunk = this.#buffered.subarray(0, this.#content)
      this.#buffered = this.#buffered.subarray(chunk.length)
      this.#content -= chunk.length
      yield chunk
    }
    await this.#skip(this.#padding)
    this.#padding = 0
  }

  /** Reads what follows the end, and throws it away: whoever sends it would wait. */
  async drain(): Promise<void> {
    while (await this.#fill()) this.#buffered = Buffer.alloc(0)
  }

  #path(text: string): string {
    const parts = text.split('/').filter((part) => part !== '' && part !== '.')
    const bad = text.startsWith('/') || parts.includes('..') || text.includes('\0') || text.length > nameMax
    if (bad) throw this.#invalid(`the path ${shown(text)}: only paths inside the archive are allowed`)
    return parts.join('/') + (text.endsWith('/') ? '/' : '')
  }

  async #extension(size: number): Promise<Buffer> {
    if (size > extensionMax) throw this.#invalid(`an extended header of ${size} bytes`)
    const text = Buffer.from(await this.#bytes(size))
    await this.#skip(padding(size))
    return text
  }

  /** A header; null: the end, which GNU tar marks by empty blocks, and others by nothing. */
  async #block(): Promise<Buffer | null> {
    if (this.#buffered.length === 0 && !(await this.#fill())) return null
    const block = Buffer.from(await this.#bytes(blockSize))
    return block.every((byte) => byte === 0) ? null : block
  }

  async #bytes(size: number): Promise<Buffer> {
    while (this.#buffered.length < size) if (!(await this.#fill())) throw this.#truncated()
    const bytes = this.#buffered.subarray(0, size)
    this.#buffered = this.#buffered.subarray(size)
    return bytes
  }

  async #skip(size: number): Promise<void> {
    await this.#bytes(size)
  }

  async #fill(): Promise<boolean> {
    let step = await this.#source.next()
    while (step.done !== true && step.value.length === 0) step = await this.#source.next()
    if (step.done === true) return false
    const chunk = Buffer.from(step.value.buffer, step.value.byteOffset, step.value.byteLength)
    this.#buffered = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk])
    return true
  }

  #invalid(why: string): CaissonError {
    return new CaissonError('ERR_IMAGE_INVALID', `${this.#what}: ${why}`)
  }

  #damaged(): CaissonError {
    return this.#invalid(this.#entries <= 1 ? 'it is no tar archive' : 'a header is damaged')
  }

  #truncated(): CaissonError {
    return this.#invalid('it is truncated: it ends in the middle of an entry')
  }
}

function shown(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)
}

function ustarName(header: Buffer): string {
  const name = headerText(header.subarray(0, 100))
  const prefix = header.toString('latin1', 257, 262) === 'ustar' ? headerText(header.subarray(345, 500)) : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

function kindOf(flag: string, name: string): EntryKind | null {
  switch (flag) {
    case '0':
    case '7':
      return 'file'
    case '\0':
      return name.endsWith('/') ? 'directory' : 'file'
    case '1':
      return 'link'
    case '2':
      return 'symlink'
    case '5':
      return 'directory'
    default:
      return null
  }
}

/** `length key=value\n`, pax(1). Null: damaged. */
function paxRecords(text: Buffer): Map<string, string> | null {
  const records = new Map<string, string>()
  for (let at = 0; at < text.length;) {
    const space = text.indexOf(0x20, at)
    const length = space < 0 ? '' : text.toString('latin1', at, space)
    const end = at + Number(length)
    if (!/^[1-9]\d{0,6}$/.test(length) || end > text.length || text[end - 1] !== 0x0a) return null
    const record = text.toString('utf8', space + 1, end - 1)
    const equals = record.indexOf('=')
    if (equals <= 0) return null
    records.set(record.slice(0, equals), record.slice(equals + 1))
    at = end
  }
  return records
}
