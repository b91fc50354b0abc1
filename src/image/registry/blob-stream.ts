import { CaissonError, isCaissonError } from '../../errors.ts'
import type { Descriptor } from '../manifest.ts'
import { Arrivals } from './arrivals.ts'
import { describeConnectionError, quoteRemote } from './errors.ts'
import { isBrokenTransfer, type HttpResponse } from './transport.ts'

/** Bytes that a connection must bring for the next break to count as the first again. */
const progressMin = 1 << 20

export interface BlobStreamOptions {
  descriptor: Descriptor
  /** Bytes that the caller has already. */
  offset: number
  /** The blob, for messages. */
  what: string
  /** Breaks without progress that are borne. */
  attempts: number
  signal: AbortSignal
  /** Asks for the blob from `offset` on, with an answer that `isBlobAnswer`. `failures`: breaks without progress so far. */
  open: (offset: number, failures: number, signal: AbortSignal) => Promise<HttpResponse>
  /** Waits before another attempt. */
  pause: (failures: number, signal: AbortSignal) => Promise<void>
}

/**
 * The bytes of a blob as they come, unverified but for their number. A connection that breaks off or goes silent is followed by
 * another that goes on where it ended (RFC 9110, section 14), or from the beginning with what is known passed over, where the
 * server knows no ranges.
 *
 * @param first the answer to the request for `offset`
 */
export function blobStream(options: BlobStreamOptions, first: HttpResponse): AsyncIterable<Buffer> {
  // from now on, not from the first chunk that is asked for: an error in between is to be heard
  return transfer(options, { response: first, arrivals: new Arrivals(first.body) })
}

interface Transfer {
  readonly response: HttpResponse
  readonly arrivals: Arrivals
}

async function* transfer(options: BlobStreamOptions, first: Transfer): AsyncGenerator<Buffer, void, undefined> {
  const { descriptor, offset, attempts, what, signal, open, pause } = options
  const mismatch = (why: string): CaissonError => new CaissonError('ERR_DIGEST_MISMATCH', `${what}: ${why}`)
  let received = offset
  let failures = 0
  let current: Transfer | null = first
  for (;;) {
    const begun = received
    try {
      if (current === null) {
        const response = await open(received, failures, signal)
        current = { response, arrivals: new Arrivals(response.body) }
      }
      const { response, arrivals }: Transfer = current
      // the whole, where a part was asked for
      let skip = response.statusCode === 200 ? received : 0
      for (let chunks = await arrivals.take(); chunks !== null; chunks = await arrivals.take()) {
        for (const chunk of chunks) {
          const fresh = skip > 0 ? chunk.subarray(skip) : chunk
          skip = Math.max(0, skip - chunk.length)
          if (fresh.length === 0) continue
          received += fresh.length
          if (received > descriptor.size) throw mismatch(`more than the ${descriptor.size} bytes announced`)
          yield fresh
        }
      }
      if (received === descriptor.size) return
      throw mismatch(`${received} instead of the ${descriptor.size} bytes announced`)
    } catch (error) {
      signal.throwIfAborted()
      if (!isBrokenTransfer(error) && !isUnavailable(error)) throw error
      failures = received - begun >= progressMin ? 1 : failures + 1
      if (failures >= attempts) {
        const why = describeConnectionError(error)
        const got = `after ${received} of ${descriptor.size} bytes`
        throw new CaissonError('ERR_REGISTRY_UNAVAILABLE', `the transfer of ${what} broke off ${got}: ${why}`, {
          cause: error,
        })
      }
    } finally {
      current?.arrivals.close()
      current = null
    }
    await pause(failures, signal)
  }
}

/**
 * Whether an answer to the request for a blob from `offset` on is one: the whole, or the rest.
 *
 * @throws CaissonError ERR_DIGEST_MISMATCH when it is of another size, or another part
 */
export function isBlobAnswer(response: HttpResponse, descriptor: Descriptor, offset: number, what: string): boolean {
  const { size } = descriptor
  const mismatch = (why: string): CaissonError => {
    response.body.on('error', () => undefined).destroy()
    return new CaissonError('ERR_DIGEST_MISMATCH', `${what}: ${why}`)
  }
  if (response.statusCode === 200) {
    const length = single(response.headers['content-length'])
    if (length === '' || Number(length) === size) return true
    throw mismatch(`the registry sends ${quoteRemote(length)} bytes, the manifest says ${size}`)
  }
  if (response.statusCode !== 206 || offset === 0) return false
  const range = single(response.headers['content-range'])
  const [, from, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(range) ?? []
  if (Number(from ?? -1) === offset && (total === '*' || Number(total) === size)) return true
  throw mismatch(`asked for the bytes from ${offset} of ${size}, the registry sends "${quoteRemote(range)}"`)
}

/** The registry may just be restarting. */
function isUnavailable(error: unknown): boolean {
  return isCaissonError(error) && error.code === 'ERR_REGISTRY_UNAVAILABLE'
}

function single(header: string | string[] | undefined): string {
  return typeof header === 'string' ? header : ''
}
