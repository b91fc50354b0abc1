import { Readable } from 'node:stream'
import { CaissonError, isCaissonError } from '../../errors.ts'
import type { Descriptor } from '../manifest.ts'
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
 */
export class BlobStream extends Readable {
  readonly #options: BlobStreamOptions
  readonly #controller = new AbortController()
  #wake: (() => void) | null = null
  #started = false
  #received: number
  #first: HttpResponse | null
  #current: HttpResponse

  /** @param first the answer to the request for `offset`, when it was asked already */
  constructor(options: BlobStreamOptions, first: HttpResponse) {
    super({ highWaterMark: 1 << 20 })
    this.#options = options
    this.#received = options.offset
    this.#current = this.#first = first
    first.body.on('error', () => undefined) // heard by the loop, which may not have begun
  }

  override _read(): void {
    if (this.#started) {
      this.#wake?.()
      return
    }
    this.#started = true
    this.#run().catch((error: unknown) => this.destroy(error as Error))
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#controller.abort(error ?? undefined)
    this.#current.body.destroy()
    this.#wake?.()
    done(error)
  }

  async #run(): Promise<void> {
    const { descriptor, attempts, what, open, pause } = this.#options
    const signal = AbortSignal.any([this.#options.signal, this.#controller.signal])
    let failures = 0
    for (;;) {
      const begun = this.#received
      try {
        const response = this.#first ?? (await open(this.#received, failures, signal))
        this.#first = null
        this.#current = response
        await this.#take(response)
        if (this.#received === descriptor.size) return void this.push(null)
        if (this.destroyed) return
        throw this.#mismatch(`${this.#received} instead of the ${descriptor.size} bytes announced`)
      } catch (error) {
        if (this.destroyed) return
        signal.throwIfAborted()
        if (!isBrokenTransfer(error) && !isUnavailable(error)) throw error
        failures = this.#received - begun >= progressMin ? 1 : failures + 1
        if (failures < attempts) await pause(failures, signal)
        else {
          const why = describeConnectionError(error)
          const got = `after ${this.#received} of ${descriptor.size} bytes`
          throw new CaissonError('ERR_REGISTRY_UNAVAILABLE', `the transfer of ${what} broke off ${got}: ${why}`, {
            cause: error,
          })
        }
      }
    }
  }

  async #take(response: HttpResponse): Promise<void> {
    // the whole, where a part was asked for
    let skip = response.statusCode === 200 ? this.#received : 0
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      // leaving the loop ends the transfer
      if (this.destroyed) return
      const fresh = skip > 0 ? chunk.subarray(skip) : chunk
      skip = Math.max(0, skip - chunk.length)
      if (fresh.length === 0) continue
      this.#received += fresh.length
      if (this.#received > this.#options.descriptor.size) {
        throw this.#mismatch(`more than the ${this.#options.descriptor.size} bytes announced`)
      }
      if (!this.push(fresh)) await new Promise<void>((resolve) => (this.#wake = resolve))
      this.#wake = null
    }
  }

  #mismatch(why: string): CaissonError {
    return new CaissonError('ERR_DIGEST_MISMATCH', `${this.#options.what}: ${why}`)
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
