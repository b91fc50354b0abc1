import type { Readable } from 'node:stream'
import { CaissonError } from '../../errors.ts'
import { repositoryName, type Reference } from '../reference.ts'
import { mayBePlain, sameHost, type Authorizer } from './auth.ts'
import type { Credentials } from './credentials.ts'
import { denied, describeErrorBody, errorCode, protocolError, quoteRemote, unavailable } from './errors.ts'
import type { Endpoint, Route } from './hosts.ts'
import { rootsOnly } from './tls.ts'
import { discard, readBody, type HttpRequest, type HttpResponse, type Transport } from './transport.ts'

const redirectsMax = 10
const errorBodyMax = 64 << 10
const redirectStatuses = new Set([301, 302, 303, 307, 308])
/** One answer for a token that has just expired, one for the token that replaces it. */
const challengesMax = 2

/** TLS that fails because the other side speaks none; a certificate that fails verification, and an alert, are not among them. */
const notTlsCodes = /^(?:EPROTO|ERR_SSL_(?!\w*ALERT)\w+)$/
/** It may not speak TLS, or the connection may just have broken: good for one try of plain HTTP. */
const brokenCodes = /^(?:ECONNRESET|UND_ERR_SOCKET)$/

/** What all sessions of a client share. */
export interface ClientParts {
  readonly transport: Transport
  readonly authorizer: Authorizer
  allowsPlain(host: string): boolean
  /** What loopback and insecure hosts turned out to speak. */
  readonly schemes: Map<string, 'http:' | 'https:'>
  /** A registry's `Warning: 299` (distribution-spec, "Warnings"). */
  warn(host: string, text: string): void
}

export interface SessionRequest {
  method: HttpRequest['method']
  /** Below the repository (`manifests/latest`), or a place that the registry has named before. */
  path: string | URL
  headers?: Record<string, string>
  body?: string | Buffer | (() => Readable)
  signal: AbortSignal
  attempts?: number
}

/** An answer, and where it came from: relative places in it begin there. */
export interface Answer {
  readonly response: HttpResponse
  readonly url: URL
}

/** Requests about one repository to one endpoint, with authentication and redirects. */
export class Session {
  readonly endpoint: Endpoint
  readonly #parts: ClientParts
  readonly #reference: Reference
  readonly #credentials: Credentials
  readonly #scopes: readonly string[]
  readonly #label: string
  #base: URL | null

  /** @param scopes what the requests will need of a token: `repository:library/busybox:pull` */
  constructor(
    parts: ClientParts,
    options: {
      endpoint: Endpoint
      reference: Reference
      credentials: Credentials
      scopes: readonly string[]
      /** The image, for messages. */
      label: string
    },
  ) {
    this.#parts = parts
    this.endpoint = options.endpoint
    this.#reference = options.reference
    this.#credentials = options.credentials
    this.#scopes = options.scopes
    this.#label = options.label
    this.#base = options.endpoint.guessScheme ? null : options.endpoint.base
  }

  /** For messages: `registry.local:5000`. */
  get host(): string {
    return this.endpoint.own ? this.#reference.domain : this.endpoint.base.host
  }

  get #what(): string {
    return `image "${this.#label}"`
  }

  /** One request, answered whatever its status but 401. @throws CaissonError ERR_REGISTRY_*, ERR_CANCELLED */
  async send(request: SessionRequest): Promise<Answer> {
    const { transport, authorizer } = this.#parts
    const { signal } = request
    const base = await this.#root(signal)
    const access = {
      base,
      route: this.endpoint.route,
      scopes: this.#scopes,
      credentials: this.#credentials,
      what: this.#what,
    }
    let authorization = authorizer.known(access)
    let challenges = 0
    let url = typeof request.path === 'string' ? this.#place(request.path, base) : request.path
    for (let redirects = 0; ;) {
      // credentials are for the registry alone: not for the storage that it sends us to
      const own = url.origin === base.origin
      const response = await transport.send(
        {
          method: request.method,
          url,
          headers: {
            ...(own && this.endpoint.headers),
            ...request.headers,
            ...(own && authorization !== undefined && { authorization }),
          },
          ...(request.body !== undefined && { body: request.body }),
          signal,
          what: this.#what,
          route: this.#route(url, base),
        },
        request.attempts === undefined ? {} : { attempts: request.attempts },
      )
      this.#heed(response)
      if (response.statusCode === 401 && own) {
        await discard(response)
        if (challenges++ >= challengesMax)
          throw denied(base.host, this.#what, 'the credentials were not accepted (401)')
        authorization = await authorizer.answer(response, { ...access, signal }, authorization)
        continue
      }
      if (!redirectStatuses.has(response.statusCode)) return { response, url }
      await discard(response)
      if (++redirects > redirectsMax) {
        throw protocolError(base.host, `more than ${redirectsMax} redirects for ${this.#what}`)
      }
      url = this.placeOf(response, url)
    }
  }

  /**
   * The place that an answer's Location, or another reference in it, names.
   *
   * @throws CaissonError ERR_REGISTRY_PROTOCOL when there is none, or when it leads off TLS or onto the plain services of this machine
   */
  placeOf(response: HttpResponse, from: URL, location: unknown = response.headers['location']): URL {
    const base = this.#base ?? this.endpoint.base
    if (typeof location !== 'string' || !URL.canParse(location, from.href)) {
      throw protocolError(base.host, `it answered ${response.statusCode} without a valid Location`)
    }
    const url = new URL(location, from)
    if (url.protocol !== 'https:' && !mayBePlain(url, base, (host) => this.#parts.allowsPlain(host))) {
      throw protocolError(base.host, `it redirects to ${url.protocol}//${url.host}, which is not HTTPS`)
    }
    url.username = ''
    url.password = ''
    return url
  }

  /** The error that an answer stands for. @param what the object asked for, for messages */
  async failure(response: HttpResponse, what: string): Promise<CaissonError> {
    const status = response.statusCode
    const { host } = this
    let said = ''
    try {
      said = describeErrorBody((await readBody(response, errorBodyMax)) ?? Buffer.alloc(0))
    } catch {
      // the words of a failure may get lost; its status is what counts
    }
    const answered = `answered ${status}${said === '' ? '' : ` (${said})`}`
    if (status === 404) {
      return new CaissonError('ERR_IMAGE_NOT_FOUND', `${what} not found: registry ${host} ${answered}`, {
        fields: { image: this.#label },
      })
    }
    if (status === 401 || status === 403) return denied(host, repositoryName(this.#reference), `it ${answered}`)
    if (status === 429) {
      const rest = response.headers['ratelimit-remaining']
      const limit = typeof rest === 'string' ? `, ratelimit-remaining: ${quoteRemote(rest)}` : ''
      return unavailable(host, `too many requests: it ${answered}${limit}`)
    }
    if (status === 408 || status >= 500) return unavailable(host, `it ${answered} for ${what}`)
    return protocolError(host, `it ${answered} for ${what}`)
  }

  #place(path: string, base: URL): URL {
    const url = new URL(base)
    const [place = '', query] = path.split('?', 2)
    url.pathname += `${this.#reference.path}/${place}`
    const parameters = new URLSearchParams(query)
    if (this.endpoint.namespace !== null) parameters.set('ns', this.endpoint.namespace)
    url.search = parameters.toString()
    return url
  }

  /** Client certificates and a name that need not be verified are for the endpoint; whom it trusts holds wherever it leads. */
  #route(url: URL, base: URL): Route {
    const { route } = this.endpoint
    if (url.origin === base.origin) return route
    return sameHost(url, base) ? route : { ...route, tls: rootsOnly(route.tls) }
  }

  #heed(response: HttpResponse): void {
    const header = response.headers['warning']
    for (const one of (typeof header === 'string' ? [header] : (header ?? [])).slice(0, 8)) {
      const text = /^299 \S+ "((?:[^"\\]|\\.){1,2000})"/.exec(one)?.[1]
      if (text !== undefined) this.#parts.warn(this.host, quoteRemote(text.replace(/\\(.)/g, '$1')))
    }
  }

  /** TLS first: plain HTTP is only used with a host that allows it and does not speak TLS. */
  async #root(signal: AbortSignal): Promise<URL> {
    if (this.#base !== null) return this.#base
    const { base, route } = this.endpoint
    const { schemes } = this.#parts
    const scheme = schemes.get(base.host) ?? (await this.#probe(base, route, signal))
    const root = new URL(base)
    root.protocol = scheme
    return (this.#base = root)
  }

  async #probe(base: URL, route: Route, signal: AbortSignal): Promise<'http:' | 'https:'> {
    const { transport, schemes } = this.#parts
    try {
      const request = { method: 'GET', url: base, headers: {}, signal, what: this.#what, route } as const
      await discard(await transport.send(request, { attempts: 1 }))
      schemes.set(base.host, 'https:')
      return 'https:'
    } catch (error) {
      const code = error instanceof CaissonError ? errorCode(error.cause) : ''
      if (notTlsCodes.test(code)) schemes.set(base.host, 'http:')
      else if (!brokenCodes.test(code)) throw error
      return 'http:'
    }
  }
}
