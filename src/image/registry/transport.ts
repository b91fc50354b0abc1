import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, ProxyAgent, request, type Dispatcher } from 'undici'
import { isCaissonError } from '../../errors.ts'
import { cancelled, describeConnectionError, errorCode, unavailable } from './errors.ts'
import { directRoute, type Route } from './hosts.ts'
import { ProxySettings, type ProxyEnvironment } from './proxy.ts'
import { secureContext } from './tls.ts'

export interface TransportOptions {
  /** Milliseconds without a byte, after which a transfer counts as dead. */
  stallTimeoutMs?: number
  connectTimeoutMs?: number
  /** Attempts for one request, the first included. */
  attempts?: number
  /** Longest wait that a registry can ask for by Retry-After before the pull fails, ms. */
  retryAfterMaxMs?: number
  /** First wait between attempts; it doubles, ms. */
  backoffMs?: number
  /** Where HTTP_PROXY, HTTPS_PROXY and NO_PROXY are; default: the process's own. */
  environment?: ProxyEnvironment
}

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  url: URL
  headers: Record<string, string>
  /** A stream is made anew for every attempt; its length must be in the headers. */
  body?: string | Buffer | (() => Readable)
  signal: AbortSignal
  /** What is being done, for the message of a cancellation. */
  what: string
  route?: Route
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
/** A registry may move and hash gigabytes before it answers the end of an upload. */
const commitPatience = 10
const defaultStallTimeoutMs = 60_000
/** Ways to reach hosts that are kept open. */
const agentsMax = 64

/** Whether a body that ended with this error may well go on over another connection. */
export function isBrokenTransfer(error: unknown): boolean {
  return /^(?:ECONNRESET|EPIPE|ETIMEDOUT|UND_ERR_SOCKET|UND_ERR_BODY_TIMEOUT|UND_ERR_RES_CONTENT_LENGTH_MISMATCH)$/.test(
    errorCode(error),
  )
}

/** HTTP with time-outs, bounded retries and cancellation, by the route of each host. Redirects and authentication are the session's. */
export class Transport {
  readonly proxies: ProxySettings
  readonly #agents = new Map<string, Promise<Dispatcher>>()
  #stallTimeoutMs: number
  readonly #connectTimeoutMs: number
  readonly #attempts: number
  readonly #retryAfterMaxMs: number
  readonly #backoffMs: number

  constructor(options: TransportOptions = {}) {
    this.proxies = new ProxySettings(options.environment ?? process.env)
    this.#stallTimeoutMs = options.stallTimeoutMs ?? defaultStallTimeoutMs
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 15_000
    this.#attempts = options.attempts ?? 5
    this.#retryAfterMaxMs = options.retryAfterMaxMs ?? 60_000
    this.#backoffMs = options.backoffMs ?? 250
  }

  /** For requests to come. */
  set stallTimeoutMs(value: number | undefined) {
    this.#stallTimeoutMs = value ?? defaultStallTimeoutMs
  }

  get attempts(): number {
    return this.#attempts
  }

  /** One request with its retries; any status but those worth another attempt is an answer. The body is the caller's to consume. */
  async send(message: HttpRequest, options: { attempts?: number } = {}): Promise<HttpResponse> {
    const attempts = options.attempts ?? this.#attempts
    for (let attempt = 1; ; attempt++) {
      const last = attempt >= attempts
      let asked = 0
      try {
        const response = await this.#once(message)
        if (!retryStatuses.has(response.statusCode) || last) return response
        asked = retryAfterMs(response.headers['retry-after']) ?? 0
        if (asked > this.#retryAfterMaxMs) return response
        await discard(response)
      } catch (error) {
        if (message.signal.aborted) throw cancelled(message.what, message.signal.reason)
        if (isCaissonError(error)) throw error
        if (last || !retryErrors.has(errorCode(error))) {
          throw unavailable(message.url.host, `cannot be reached: ${describeConnectionError(error)}`, error)
        }
      }
      await this.pause(attempt, message, asked)
    }
  }

  /** Waits before attempt `attempt + 1`: longer each time, and never less than `atLeastMs`. @throws CaissonError ERR_CANCELLED */
  async pause(attempt: number, message: Pick<HttpRequest, 'signal' | 'what'>, atLeastMs = 0): Promise<void> {
    const wait = Math.min(this.#backoffMs * 2 ** (attempt - 1), backoffMaxMs) * (0.75 + Math.random() / 2)
    try {
      await sleep(Math.max(wait, atLeastMs), undefined, { signal: message.signal })
    } catch {
      throw cancelled(message.what, message.signal.reason)
    }
  }

  async #once(message: HttpRequest): Promise<HttpResponse> {
    const { url, body } = message
    return request(url, {
      dispatcher: await this.#agent(url, message.route ?? directRoute),
      method: message.method,
      headers: { 'user-agent': 'caisson', ...message.headers },
      signal: message.signal,
      // between two chunks, not for the whole body
      bodyTimeout: this.#stallTimeoutMs,
      headersTimeout: this.#stallTimeoutMs * (message.method === 'PUT' ? commitPatience : 1),
      ...(body !== undefined && { body: typeof body === 'function' ? body() : body }),
    })
  }

  /** Connections are shared by all requests that go the same way. */
  #agent(url: URL, route: Route): Promise<Dispatcher> {
    const proxy = route.proxy ?? this.proxies.for(url)
    const key = [route.tls?.id, route.connectTimeoutMs, proxy?.href, url.protocol].join(' ')
    const known = this.#agents.get(key)
    if (known !== undefined) {
      // the last in the map is the last used
      this.#agents.delete(key)
      this.#agents.set(key, known)
      return known
    }
    const agent = this.#connect(url, route, proxy)
    this.#agents.set(key, agent)
    // material that cannot be used is read again with the next request
    agent.catch(() => this.#agents.delete(key))
    const [oldest] = this.#agents
    if (this.#agents.size > agentsMax && oldest !== undefined) {
      this.#agents.delete(oldest[0])
      void oldest[1].then((unused) => unused.close()).catch(() => undefined)
    }
    return agent
  }

  async #connect(url: URL, route: Route, proxy: URL | null): Promise<Dispatcher> {
    const timeout = route.connectTimeoutMs ?? this.#connectTimeoutMs
    const tls =
      url.protocol === 'https:'
        ? { secureContext: await secureContext(route.tls), rejectUnauthorized: route.tls?.verify ?? true }
        : {}
    // a bound against mistakes, not a queue: transfers that wait for each other must not wait for a connection
    const limits = { maxHeaderSize: 64 << 10, connections: 128 }
    if (proxy === null) return new Agent({ ...limits, connect: { timeout, ...tls } })
    const uri = new URL(proxy)
    if (uri.protocol === 'socks5h:') uri.protocol = 'socks5:'
    const account = `${decodeURIComponent(uri.username)}:${decodeURIComponent(uri.password)}`
    const http = /^https?:$/.test(uri.protocol)
    if (http) uri.username = uri.password = ''
    return new ProxyAgent({
      ...limits,
      uri: uri.href,
      ...(http && account !== ':' && { token: `Basic ${Buffer.from(account).toString('base64')}` }),
      // plain requests are forwarded, as every proxy expects them; TLS is tunnelled
      proxyTunnel: url.protocol === 'https:',
      requestTls: { timeout, ...tls },
      proxyTls: { timeout, ...(uri.protocol === 'https:' && { secureContext: await secureContext(null) }) },
    })
  }

  async close(): Promise<void> {
    const agents = await Promise.allSettled(this.#agents.values())
    for (const agent of agents) if (agent.status === 'fulfilled') await agent.value.destroy()
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
