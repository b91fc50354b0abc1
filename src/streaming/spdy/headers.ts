import { createDeflate, createInflate, constants, type Deflate, type Inflate } from 'node:zlib'

import { headerDictionary } from './dictionary.ts'
import { SpdyError } from './error.ts'

/** Headers of a stream: lower-case names; of a name that comes more than once, the values joined by NUL. */
export type Headers = ReadonlyMap<string, string>

const blockMax = 256 << 10
const headersMax = 256

/** Name/value pairs: counts and lengths are u32, big-endian (draft-mbelshe-httpbis-spdy-00, section 2.6.10). */
export function encodeHeaders(headers: Headers): Buffer {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(headers.size)
  const parts = [count]
  for (const text of [...headers].flat()) {
    const bytes = Buffer.from(text, 'latin1')
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    parts.push(length, bytes)
  }
  return Buffer.concat(parts)
}

/** @throws SpdyError where the block is malformed: lengths beyond its end, a name that is empty, twice there or not in lower case */
export function decodeHeaders(block: Buffer): Headers {
  let at = 0
  const integer = (): number => {
    if (at + 4 > block.length) throw new SpdyError('a header block ends early')
    at += 4
    return block.readUInt32BE(at - 4)
  }
  const text = (): string => {
    const length = integer()
    if (length > block.length - at) throw new SpdyError('a header block ends early')
    at += length
    return block.toString('latin1', at - length, at)
  }
  const headers = new Map<string, string>()
  const count = integer()
  if (count > headersMax) throw new SpdyError(`${count} headers, and ${headersMax} is the limit`)
  for (let i = 0; i < count; i++) {
    const name = text()
    const value = text()
    if (name === '' || name !== name.toLowerCase() || headers.has(name))
      throw new SpdyError('a header name is not valid')
    headers.set(name, value)
  }
  if (at !== block.length) throw new SpdyError('a header block is longer than its headers')
  return headers
}

function tooLong(): SpdyError {
  return new SpdyError(`a header block is longer than ${blockMax} bytes`)
}

/** One direction of header compression: a single zlib stream for the whole connection, flushed after every block. */
class HeaderStream {
  readonly #zlib: Deflate | Inflate
  #output: Buffer[] = []
  #size = 0
  #failure: Error | null = null
  #onFailure: ((error: Error) => void) | null = null

  constructor(zlib: Deflate | Inflate) {
    this.#zlib = zlib
    zlib.on('data', (chunk: Buffer) => {
      this.#size += chunk.length
      // the rest of what a small block may expand to is not even computed
      if (this.#size > blockMax) zlib.destroy(tooLong())
      else this.#output.push(chunk)
    })
    zlib.on('error', (error: Error) => {
      this.#failure = error instanceof SpdyError ? error : new SpdyError(`header block: ${error.message}`)
      this.#onFailure?.(this.#failure)
    })
  }

  /** One block, whole; the next one is begun when this has resolved. */
  async pass(block: Buffer): Promise<Buffer> {
    this.#output = []
    this.#size = 0
    await new Promise<void>((resolve, reject) => {
      if (this.#failure !== null) {
        reject(this.#failure)
        return
      }
      this.#onFailure = reject
      this.#zlib.write(block)
      this.#zlib.flush(constants.Z_SYNC_FLUSH, resolve)
    })
    this.#onFailure = null
    // the flush may be told of before the end of the stream is
    if (this.#size > blockMax) throw tooLong()
    return Buffer.concat(this.#output)
  }

  close(): void {
    this.#zlib.destroy()
  }
}

export class HeaderWriter extends HeaderStream {
  constructor() {
    super(createDeflate({ dictionary: headerDictionary, level: constants.Z_BEST_COMPRESSION }))
  }
  write(headers: Headers): Promise<Buffer> {
    return this.pass(encodeHeaders(headers))
  }
}

export class HeaderReader extends HeaderStream {
  constructor() {
    super(createInflate({ dictionary: headerDictionary, finishFlush: constants.Z_SYNC_FLUSH }))
  }
  async read(block: Buffer): Promise<Headers> {
    return decodeHeaders(await this.pass(block))
  }
}
