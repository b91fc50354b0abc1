import type { Readable } from 'node:stream'
import { CaissonError } from '../../errors.ts'
import { digestOf, isDigest, type Digest } from '../digest.ts'
import { manifestSizeMax, type Descriptor } from '../manifest.ts'
import { manifestAccept } from '../media-types.ts'
import { formatReference, repositoryName, type Reference } from '../reference.ts'
import type { ImageSource, ResolvedImage } from '../source.ts'
import { Authorizer } from './auth.ts'
import { credentialsFor, type Credentials, type RegistryAuth } from './credentials.ts'
import { denied, describeErrorBody, errorCode, protocolError, quoteRemote, unavailable } from './errors.ts'
import { discard, readBody, Transport, type HttpResponse, type TransportOptions } from './transport.ts'

const redirectsMax = 10
const errorBodyMax = 64 << 10
const redirectStatuses = new Set([301, 302, 303, 307, 308])
/** One answer for a token that has just expired, one for the token that replaces it. */
const challengesMax = 2

/** TLS that fails because the other side speaks none; a certificate that fails verification is not among them. */
const notTlsCodes = /^(?:EPROTO|ERR_SSL_\w+)$/
/** It may not speak TLS, or the connection may just have broken: good for one try of plain HTTP. */
const brokenCodes = /^(?:ECONNRESET|UND_ERR_SOCKET)$/

/** A client of registries: https://github.com/opencontainers/distribution-spec, pull category. */
export class RegistryClient {
  readonly #transport: Transport
  readonly #authorizer: Authorizer
  /** What loopback and insecure hosts turned out to speak. */
  readonly #schemes = new Map<string, 'http:' | 'https:'>()

  constructor(options: TransportOptions = {}) {
    this.#transport = new Transport(options)
    this.#authorizer = new Authorizer(this.#transport)
  }

  /** @throws CaissonError ERR_INVALID_ARGUMENT for credentials that cannot be read */
  source(reference: Reference, auth?: RegistryAuth): ImageSource {
    return new Repository(reference, credentialsFor(reference.domain, auth), {
      transport: this.#transport,
      authorizer: this.#authorizer,
      base: (signal, what) => this.#base(reference, signal, what),
    })
  }

  async close(): Promise<void> {
    await this.#transport.close()
  }

  async #base(reference: Reference, signal: AbortSignal, what: string): Promise<URL> {
    // Docker Hub's registry has another name than its images
    const host = reference.domain === 'docker.io' ? 'registry-1.docker.io' : reference.domain
    let scheme: 'http:' | 'https:' = 'https:'
    if (this.#transport.allowsPlain(host)) {
      scheme = this.#schemes.get(host) ?? (await this.#probe(host, signal, what))
    }
    return new URL(`${scheme}//${host}/v2/${reference.path}/`)
  }

  /** TLS first: plain HTTP is only used with a host that allows it and does not speak TLS. */
  async #probe(host: string, signal: AbortSignal, what: string): Promise<'http:' | 'https:'> {
    try {
      const url = new URL(`https://${host}/v2/`)
      await discard(await this.#transport.send({ method: 'GET', url, headers: {}, signal, what }, { attempts: 1 }))
      this.#schemes.set(host, 'https:')
      return 'https:'
    } catch (error) {
      const code = error instanceof CaissonError ? errorCode(error.cause) : ''
      if (notTlsCodes.test(code)) this.#schemes.set(host, 'http:')
      else if (!brokenCodes.test(code)) throw error
      return 'http:'
    }
  }
}

interface RepositoryParts {
  transport: Transport
  authorizer: Authorizer
  base(signal: AbortSignal, what: string): Promise<URL>
}

class Repository implements ImageSource {
  readonly label: string
  readonly #reference: Reference
  readonly #credentials: Credentials
  readonly #parts: RepositoryParts

  constructor(reference: Reference, credentials: Credentials, parts: RepositoryParts) {
    this.label = formatReference(reference)
    this.#reference = reference
    this.#credentials = credentials
    this.#parts = parts
  }

  async resolve(signal: AbortSignal): Promise<ResolvedImage> {
    const { digest, tag } = this.#reference
    const path = `manifests/${digest ?? tag ?? 'latest'}`
    // Asked even when the digest is known and its content is here: who may not pull must not get what somebody else has pulled.
    // HEAD does not count against the pull limits of Docker Hub, and the manifest is often here already.
    const head = await this.#request('HEAD', path, { accept: manifestAccept }, signal)
    await discard(head)
    const announced = head.headers['docker-content-digest']
    if (head.statusCode === 200 && digest !== null) return { digest, mediaType: contentType(head), body: null }
    if (head.statusCode === 200 && typeof announced === 'string' && isDigest(announced)) {
      return { digest: announced, mediaType: contentType(head), body: null }
    }
    if (head.statusCode === 429 || head.statusCode >= 500) throw await this.#failure(head, `image "${this.label}"`)
    // no digest, or HEAD is not allowed, or a failure that only a body explains
    const response = await this.#request('GET', path, { accept: manifestAccept }, signal)
    const body = await this.#document(response)
    return { digest: digest ?? digestOf(body), mediaType: contentType(response), body }
  }

  async manifest(digest: Digest, signal: AbortSignal): Promise<{ body: Buffer; mediaType: string }> {
    const response = await this.#request('GET', `manifests/${digest}`, { accept: manifestAccept }, signal)
    return { body: await this.#document(response), mediaType: contentType(response) }
  }

  async blob(descriptor: Descriptor, signal: AbortSignal): Promise<Readable> {
    const response = await this.#request('GET', `blobs/${descriptor.digest}`, {}, signal)
    if (response.statusCode !== 200)
      throw await this.#failure(response, `blob ${descriptor.digest} of image "${this.label}"`)
    const length = response.headers['content-length']
    if (typeof length === 'string' && Number(length) !== descriptor.size) {
      await discard(response)
      throw new CaissonError(
        'ERR_DIGEST_MISMATCH',
        `blob ${descriptor.digest} of image "${this.label}": the registry sends ${quoteRemote(length)} bytes, the manifest says ${descriptor.size}`,
      )
    }
    return response.body
  }

  /** A connection that broke off in the middle, or went silent. */
  isTransient(error: unknown): boolean {
    return /^(?:ECONNRESET|EPIPE|ETIMEDOUT|UND_ERR_SOCKET|UND_ERR_BODY_TIMEOUT|UND_ERR_RES_CONTENT_LENGTH_MISMATCH)$/.test(
      errorCode(error),
    )
  }

  async #document(response: HttpResponse): Promise<Buffer> {
    if (response.statusCode !== 200) throw await this.#failure(response, `image "${this.label}"`)
    let body: Buffer | null
    try {
      body = await readBody(response, manifestSizeMax)
    } catch (cause) {
      throw unavailable(this.#reference.domain, `the manifest of "${this.label}" broke off`, cause)
    }
    if (body !== null) return body
    throw new CaissonError(
      'ERR_IMAGE_INVALID',
      `manifest of image "${this.label}": more than the limit of ${manifestSizeMax} bytes`,
    )
  }

  /** One request with authentication and redirects. */
  async #request(
    method: 'GET' | 'HEAD',
    path: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const { transport, authorizer } = this.#parts
    const what = `image "${this.label}"`
    const base = await this.#parts.base(signal, what)
    const access = {
      host: base.host,
      secure: base.protocol === 'https:',
      scope: `repository:${this.#reference.path}:pull`,
      credentials: this.#credentials,
      what,
    }
    let authorization = authorizer.known(access)
    let challenges = 0
    let url = new URL(path, base)
    for (let redirects = 0; ;) {
      // credentials are for the registry alone: not for the storage that it sends us to
      const own = url.origin === base.origin
      const response = await transport.send({
        method,
        url,
        headers: own && authorization !== undefined ? { ...headers, authorization } : headers,
        signal,
        what,
      })
      if (response.statusCode === 401 && own) {
        await discard(response)
        if (challenges++ >= challengesMax) throw denied(base.host, what, 'the credentials were not accepted (401)')
        authorization = await authorizer.answer(response, { ...access, signal }, authorization)
        continue
      }
      if (!redirectStatuses.has(response.statusCode)) return response
      await discard(response)
      if (++redirects > redirectsMax) throw protocolError(base.host, `more than ${redirectsMax} redirects for ${what}`)
      url = this.#redirect(response, url, base)
    }
  }

  #redirect(response: HttpResponse, from: URL, base: URL): URL {
    const location = response.headers['location']
    if (typeof location !== 'string' || !URL.canParse(location, from.href)) {
      throw protocolError(base.host, `it answered ${response.statusCode} without a valid Location`)
    }
    const url = new URL(location, from)
    // a registry may not lead a client off TLS, nor onto the plain services of this machine
    const plain = url.protocol === 'http:' && base.protocol === 'http:' && this.#parts.transport.allowsPlain(url.host)
    if (url.protocol !== 'https:' && !plain) {
      throw protocolError(base.host, `it redirects to ${url.protocol}//${url.host}, which is not HTTPS`)
    }
    url.username = ''
    url.password = ''
    return url
  }

  async #failure(response: HttpResponse, what: string): Promise<CaissonError> {
    const status = response.statusCode
    const host = this.#reference.domain
    let said = ''
    try {
      said = describeErrorBody((await readBody(response, errorBodyMax)) ?? Buffer.alloc(0))
    } catch {
      // the words of a failure may get lost; its status is what counts
    }
    const answered = `answered ${status}${said === '' ? '' : ` (${said})`}`
    if (status === 404) {
      return new CaissonError('ERR_IMAGE_NOT_FOUND', `${what} not found: registry ${host} ${answered}`, {
        fields: { image: this.label },
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
}

function contentType(response: HttpResponse): string {
  const value = response.headers['content-type']
  return typeof value === 'string' ? (value.split(';', 1)[0] ?? '').trim().toLowerCase().slice(0, 255) : ''
}
