import { createHash } from 'node:crypto'
import { pipeline, Transform, type Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { CaissonError } from '../errors.ts'
import { digestMismatch, digestOfHex, type Digest } from './digest.ts'

export interface ExpansionLimits {
  /** Bytes of the uncompressed archive. */
  maxBytes: number
  /** Uncompressed bytes per compressed byte, once more than `ratioFloor` bytes have come out. Deflate's own limit is 1032. */
  maxRatio: number
  ratioFloor: number
}

export const defaultExpansion: ExpansionLimits = { maxBytes: 2 ** 38, maxRatio: 250, ratioFloor: 2 ** 30 }

const gzipMagic = Buffer.from([0x1f, 0x8b])
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

/**
 * The uncompressed archive of a layer blob, chunk by chunk, with its diff id checked at the end. What the blob is, its first
 * bytes say: registries hold layers whose media type is wrong, and the digest covers the bytes alone. zlib works on the thread
 * pool.
 *
 * @throws CaissonError ERR_LAYER_INVALID, ERR_IMAGE_UNSUPPORTED, ERR_DIGEST_MISMATCH
 */
export async function* uncompressedLayer(
  blob: Readable,
  options: { diffId: Digest; what: string; limits?: ExpansionLimits; signal: AbortSignal },
): AsyncGenerator<Buffer> {
  const { diffId, what, signal } = options
  const limits = options.limits ?? defaultExpansion
  const hash = createHash('sha256')
  let consumed = 0
  let produced = 0
  try {
    for await (const chunk of await decompress(blob, what, (bytes) => (consumed += bytes))) {
      signal.throwIfAborted()
      produced += chunk.length
      if (produced > limits.maxBytes) throw tooLarge(what, `to more than ${limits.maxBytes} bytes`)
      if (produced > limits.ratioFloor && produced > consumed * limits.maxRatio) {
        throw tooLarge(what, `more than ${limits.maxRatio} times`)
      }
      hash.update(chunk)
      yield chunk
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (!code.startsWith('Z_')) throw error
    throw new CaissonError('ERR_LAYER_INVALID', `${what}: damaged or truncated gzip data`, { cause: error })
  } finally {
    blob.destroy()
  }
  const actual = digestOfHex(hash.digest('hex'))
  if (actual !== diffId) throw digestMismatch(`${what}, uncompressed`, diffId, actual)
}

async function decompress(
  blob: Readable,
  what: string,
  onConsumed: (bytes: number) => void,
): Promise<AsyncIterable<Buffer>> {
  const head = await firstBytes(blob, zstdMagic.length)
  if (head.equals(zstdMagic)) {
    throw new CaissonError(
      'ERR_IMAGE_UNSUPPORTED',
      `${what}: zstd-compressed layers are not supported yet; push it with gzip`,
    )
  }
  if (!head.subarray(0, gzipMagic.length).equals(gzipMagic)) {
    return meter(blob, onConsumed)
  }
  const gunzip = createGunzip({ chunkSize: 256 << 10 })
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done): void {
      onConsumed(chunk.length)
      done(null, chunk)
    },
  })
  // an error of one destroys the others; the loop over gunzip sees it
  pipeline(blob, counter, gunzip, () => undefined)
  return gunzip
}

async function* meter(blob: Readable, onConsumed: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const chunk of blob as AsyncIterable<Buffer>) {
    onConsumed(chunk.length)
    yield chunk
  }
}

/** Looks at the beginning without taking it. */
async function firstBytes(stream: Readable, count: number): Promise<Buffer> {
  for (;;) {
    const head = stream.read(count) as Buffer | null
    if (head !== null) {
      stream.unshift(head)
      return head.subarray(0, count)
    }
    if (stream.readableEnded || stream.destroyed) {
      if (stream.errored) throw stream.errored
      return Buffer.alloc(0)
    }
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        for (const event of ['readable', 'end', 'error', 'close']) stream.removeListener(event, wake)
        resolve()
      }
      for (const event of ['readable', 'end', 'error', 'close']) stream.once(event, wake)
    })
  }
}

function tooLarge(what: string, how: string): CaissonError {
  return new CaissonError('ERR_LAYER_INVALID', `${what}: it expands ${how}, which is over the limit`)
}
