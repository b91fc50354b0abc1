import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request, type Dispatcher } from 'undici'
import { cancelled, describeConnectionError, errorCode, unavailable } from './errors.ts'

export interface TransportOptions {
  /** Hosts (`registry.local:5000`) that plain HTTP is allowed with, beside loopback. */
  insecureRegistries?: readonly string[]
  /** Milliseconds without a byte, after which a transfer counts as dead. */
  stallTimeoutMs?: number
  connectTimeoutMs?: number
  /** Attempts for one request, the first included. */
  attempts?: number
  /** Longest wait that a registry can ask for by Retry-After before the pull fails, ms. */
  retryAfterMaxMs?: number
  /** First wait between attempts; it doubles, ms. */
  backoffMs?: number
}

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'POST'
  url: URL
  headers: Record<string, string>
  body?: string
  signal: AbortSignal
  /** What is being done, for the message of a cancellation. */
  what: string
}

export type HttpResponse = Dispatcher.ResponseData

const retryStatuses = new Set([408, 429, 500, 502, 503, 504])
/** A connection that ended or could not be made in time is tried again; one that is refused says enough at once. */
const retryErrors = new Set([
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
])
const backoffMaxMs = 5000

/** HTTP with time-outs, bounded retries and cancellation. Redirects and authentication are the client's. */
export class Transport {
  readonly #agent: Agent
  readonly #insecure: ReadonlySet<string>
  readonly #attempts: number
  readonly #retryAfterMaxMs: number
  readonly #backoffMs: number

  constructor(options: TransportOptions = {}) {
    const stall = options.stallTimeoutMs ?? 60_000
    this.#agent = new Agent({
      connect: { timeout: options.connectTimeoutMs ?? 15_000 },
      // between two chunks, not for the whole body
      bodyTimeout: stall,
      headersTimeout: stall,
      maxHeaderSize: 64 << 10,
      connections: 16,
    })
    this.#insecure = new Set(options.insecureRegistries ?? [])
    this.#attempts = options.attempts ?? 5
    this.#retryAfterMaxMs = options.retryAfterMaxMs ?? 60_000
    this.#backoffMs = options.backoffMs ?? 250
  }

  /** Whether plain HTTP is acceptable with this host: Docker's rule, loopback and what is configured. */
  allowsPlain(host: string): boolean {
    if (this.#insecure.has(host)) return true
    const name = host.replace(/:\d+$/, '')
    return name === 'localhost' || name === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(name)
  }

  /** One request with its retries; any status but those worth another attempt is an answer. The body is the caller's to consume. */
  async send(message: HttpRequest, options: { attempts?: number } = {}): Promise<HttpResponse> {
    const attempts = options.attempts ?? this.#attempts
    for (let attempt = 1; ; attempt++) {
      const last = attempt >= attempts
      let wait = Math.min(this.#backoffMs * 2 ** (attempt - 1), backoffMaxMs) * (0.75 + Math.random() / 2)
      try {
        const response = await this.#once(message)
        if (!retryStatuses.has(response.statusCode) || last) return response
        const asked = retryAfterMs(response.headers['retry-after'])
        if (asked !== null && asked > this.#retryAfterMaxMs) return response
        await discard(response)
        wait = Math.max(wait, asked ?? 0)
      } catch (error) {
        if (message.signal.aborted) throw cancelled(message.what, message.signal.reason)
        if (last || !retryErrors.has(errorCode(error))) {
          throw unavailable(message.url.host, `cannot be reached: ${describeConnectionError(error)}`, error)
        }
      }
      try {
        await sleep(wait, undefined, { signal: message.signal })
      } catch {
        throw cancelled(message.what, message.signal.reason)
      }
    }
  }

  #once(message: HttpRequest): Promise<HttpResponse> {
    return request(message.url, {
      dispatcher: this.#agent,
      method: message.method,
      headers: { 'user-agent': 'caisson', ...message.headers },
      signal: message.signal,
      ...(message.body !== undefined && { body: message.body }),
    })
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }
}

/** Retry-After in milliseconds, from seconds or a date (RFC 9110, 10.2.3); null when absent or unreadable. */
export function retryAfterMs(header: string | string[] | undefined, now = Date.now()): number | null {
  const text = (Array.isArray(header) ? header[0] : header)?.trim() ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const date = /[A-Za-z]/.test(text) ? Date.parse(text) : NaN
  return Number.isNaN(date) ? null : Math.max(0, date - now)
}

/** Lets the connection be used again, or ends it when the rest of the body is long. */
export async function discard(response: HttpResponse): Promise<void> {
  try {
    await response.body.dump({ limit: 64 << 10 })
  } catch {
    // the connection is gone with the body: nothing is left to use again
  }
}

/** The body, at most `limit` bytes; null when there are more. */
export async function readBody(response: HttpResponse, limit: number): Promise<Buffer | null> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    size += chunk.length
    // leaving the loop destroys the stream, and so ends the transfer
    if (size > limit) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, size)
}
