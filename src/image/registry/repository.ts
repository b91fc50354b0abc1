import { Readable } from 'node:stream'
import { CaissonError, errorMessage, isCaissonError } from '../../errors.ts'
import { digestOf, isDigest, verifyDigest, type Digest } from '../digest.ts'
import { manifestSizeMax, type Descriptor } from '../manifest.ts'
import { manifestAccept } from '../media-types.ts'
import { formatReference, type Reference } from '../reference.ts'
import type { ImageSource, ResolvedImage } from '../source.ts'
import { blobStream, isBlobAnswer } from './blob-stream.ts'
import type { Credentials } from './credentials.ts'
import { unavailable } from './errors.ts'
import { foreignBlob } from './foreign.ts'
import type { Endpoint } from './hosts.ts'
import type { Capability } from './hosts-file.ts'
import { Session, type Answer, type ClientParts } from './session.ts'
import { discard, readBody, type HttpResponse } from './transport.ts'

const referrerPagesMax = 16

export interface RepositoryOptions {
  reference: Reference
  /** In the order in which they are tried. */
  endpoints: readonly Endpoint[]
  /** What an endpoint is given: the caller's credentials are not a mirror's. */
  credentials(endpoint: Endpoint): Promise<Credentials>
  /** Whether layers that the registry does not have are fetched from where their descriptors say. */
  foreignLayers: boolean
}

/** A repository of a registry, pull category of the distribution-spec, asked through the registry's mirrors first. */
export class Repository implements ImageSource {
  readonly label: string
  readonly #parts: ClientParts
  readonly #options: RepositoryOptions
  readonly #sessions = new Map<Endpoint, Session>()

  constructor(parts: ClientParts, options: RepositoryOptions) {
    this.label = formatReference(options.reference)
    this.#parts = parts
    this.#options = options
  }

  async resolve(signal: AbortSignal): Promise<ResolvedImage> {
    const { digest, tag } = this.#options.reference
    const path = `manifests/${digest ?? tag ?? 'latest'}`
    const what = `image "${this.label}"`
    return this.#first(digest === null ? 'resolve' : 'pull', async (session, attempts) => {
      // Asked even when the digest is known and its content is here: who may not pull must not get what somebody else has pulled.
      // HEAD does not count against the pull limits of Docker Hub, and the manifest is often here already.
      const request = { path, headers: { accept: manifestAccept }, signal, ...attempts }
      const { response: head } = await session.send({ method: 'HEAD', ...request })
      await discard(head)
      const announced = head.headers['docker-content-digest']
      if (head.statusCode === 200 && digest !== null) return { digest, mediaType: contentType(head), body: null }
      if (head.statusCode === 200 && typeof announced === 'string' && isDigest(announced)) {
        return { digest: announced, mediaType: contentType(head), body: null }
      }
      if (head.statusCode === 429 || head.statusCode >= 500) throw await session.failure(head, what)
      // no digest, or HEAD is not allowed, or a failure that only a body explains
      const { response } = await session.send({ method: 'GET', ...request })
      const body = await this.#document(session, response, what)
      return { digest: digest ?? digestOf(body), mediaType: contentType(response), body }
    })
  }

  async manifest(digest: Digest, signal: AbortSignal): Promise<{ body: Buffer; mediaType: string }> {
    const what = `image "${this.label}"`
    return this.#first('pull', async (session, attempts) => {
      const { response } = await session.send({
        method: 'GET',
        path: `manifests/${digest}`,
        headers: { accept: manifestAccept },
        signal,
        ...attempts,
      })
      const body = await this.#document(session, response, what)
      // here, so that a mirror with something else is passed over
      verifyDigest(body, digest, `manifest of ${what}`)
      return { body, mediaType: contentType(response) }
    })
  }

  async blob(descriptor: Descriptor, signal: AbortSignal, offset = 0): Promise<AsyncIterable<Buffer>> {
    const what = `blob ${descriptor.digest} of image "${this.label}"`
    if (offset > 0 && offset === descriptor.size) return Readable.from([])
    const { transport } = this.#parts
    const open = (from: number, failures: number, one: AbortSignal): Promise<HttpResponse> =>
      this.#first(
        'pull',
        async (session, attempts) => {
          const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {}
          const request = {
            method: 'GET',
            path: `blobs/${descriptor.digest}`,
            headers,
            signal: one,
            ...attempts,
          } as const
          const { response } = await session.send(request)
          if (isBlobAnswer(response, descriptor, from, what)) return response
          throw await session.failure(response, what)
        },
        failures,
      )
    const options = {
      descriptor,
      offset,
      what,
      attempts: transport.attempts,
      signal,
      open,
      pause: (failures: number, one: AbortSignal) => transport.pause(failures, { signal: one, what }),
    }
    try {
      return blobStream(options, await open(offset, 0, signal))
    } catch (error) {
      if (!isCaissonError(error) || error.code !== 'ERR_IMAGE_NOT_FOUND') throw error
      const foreign = await foreignBlob(this.#parts, descriptor, { ...options, allowed: this.#options.foreignLayers })
      if (foreign === null) throw error
      return foreign
    }
  }

  /** A manifest by tag; null when no endpoint has one. At most manifestSizeMax bytes. */
  async tagged(tag: string, signal: AbortSignal): Promise<{ body: Buffer; mediaType: string; digest: Digest } | null> {
    const what = `${tag} of image "${this.label}"`
    return absent(
      this.#first('resolve', async (session, attempts) => {
        const request = { path: `manifests/${tag}`, headers: { accept: manifestAccept }, signal, ...attempts }
        const { response } = await session.send({ method: 'GET', ...request })
        const body = await this.#document(session, response, what)
        return { body, mediaType: contentType(response), digest: digestOf(body) }
      }),
    )
  }

  /**
   * The index of what refers to a manifest (distribution-spec, "Listing Referrers"), or of the tag that stands for it where a registry
   * does not know the call: page by page, each at most manifestSizeMax bytes, unverified.
   */
  async referrers(digest: Digest, artifactType: string | null, signal: AbortSignal): Promise<Buffer[]> {
    const query = artifactType === null ? '' : `?artifactType=${encodeURIComponent(artifactType)}`
    const listed = await absent(
      this.#first('referrers', (session, attempts) =>
        this.#pages(session, `referrers/${digest}${query}`, { signal, ...attempts }),
      ),
    )
    if (listed !== null) return listed
    const tagged = await this.tagged(digest.replace(':', '-'), signal)
    return tagged === null ? [] : [tagged.body]
  }

  async #pages(
    session: Session,
    first: string,
    options: { signal: AbortSignal; attempts?: number },
  ): Promise<Buffer[]> {
    const what = `referrers of image "${this.label}"`
    const pages: Buffer[] = []
    let path: string | URL = first
    while (pages.length < referrerPagesMax) {
      const { response, url }: Answer = await session.send({ method: 'GET', path, ...options })
      if (response.statusCode === 429 || response.statusCode >= 500) throw await session.failure(response, what)
      if (response.statusCode !== 200 || !/json/.test(contentType(response))) {
        // registries that know no such call answer with 404, or with what their web server has for any path
        await discard(response)
        if (pages.length > 0) return pages
        throw new CaissonError('ERR_IMAGE_NOT_FOUND', `${what}: registry ${session.host} knows no such call`)
      }
      pages.push(await this.#document(session, response, what))
      const next = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(response.headers['link'] ?? ''))?.[1]
      if (next === undefined) return pages
      path = session.placeOf(response, url, next)
    }
    return pages
  }

  async #document(session: Session, response: HttpResponse, what: string): Promise<Buffer> {
    if (response.statusCode !== 200) throw await session.failure(response, what)
    let body: Buffer | null
    try {
      body = await readBody(response, manifestSizeMax)
    } catch (cause) {
      throw unavailable(session.host, `the manifest of "${this.label}" broke off`, cause)
    }
    if (body !== null) return body
    throw new CaissonError(
      'ERR_IMAGE_INVALID',
      `manifest of image "${this.label}": more than the limit of ${manifestSizeMax} bytes`,
    )
  }

  /**
   * The first endpoint that can. A mirror is asked once, the last one with all retries; the error is the last one's, with what
   * the mirrors said.
   *
   * @param skip how many endpoints to begin behind: those before it have just failed
   */
  async #first<T>(
    capability: Capability,
    work: (session: Session, options: { attempts?: number }) => Promise<T>,
    skip = 0,
  ): Promise<T> {
    const able = this.#options.endpoints.filter(
      ({ capabilities }) => capabilities.has(capability) || (capability === 'referrers' && capabilities.has('resolve')),
    )
    const begin = able.length === 0 ? 0 : skip % able.length
    const endpoints = able.slice(begin)
    const said: string[] = []
    for (const [index, endpoint] of endpoints.entries()) {
      const last = index === endpoints.length - 1
      try {
        return await work(await this.#session(endpoint), last ? {} : { attempts: 1 })
      } catch (error) {
        if (!isCaissonError(error) || error.code === 'ERR_CANCELLED') throw error
        if (!last) {
          said.push(`mirror ${endpoint.base.host}: ${errorMessage(error)}`)
          continue
        }
        if (said.length === 0) throw error
        const { code, message, fields, cause } = error
        throw new CaissonError(code, `${message} (${said.join('; ')})`, {
          fields,
          ...(cause !== undefined && { cause }),
        })
      }
    }
    throw new CaissonError(
      'ERR_CONFIG_INVALID',
      `image "${this.label}": no host of its registry's hosts.toml has the capability "${capability}"`,
    )
  }

  async #session(endpoint: Endpoint): Promise<Session> {
    const known = this.#sessions.get(endpoint)
    if (known !== undefined) return known
    const { reference } = this.#options
    const session = new Session(this.#parts, {
      endpoint,
      reference,
      credentials: await this.#options.credentials(endpoint),
      scopes: [`repository:${reference.path}:pull`],
      label: this.label,
    })
    this.#sessions.set(endpoint, session)
    return session
  }
}

export function contentType(response: HttpResponse): string {
  const value = response.headers['content-type']
  return typeof value === 'string' ? (value.split(';', 1)[0] ?? '').trim().toLowerCase().slice(0, 255) : ''
}

/** Null for what no endpoint has. */
async function absent<T>(found: Promise<T>): Promise<T | null> {
  try {
    return await found
  } catch (error) {
    if (isCaissonError(error) && error.code === 'ERR_IMAGE_NOT_FOUND') return null
    throw error
  }
}
