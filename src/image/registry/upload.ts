import type { Readable } from 'node:stream'
import type { CaissonError } from '../../errors.ts'
import { isCaissonError } from '../../errors.ts'
import type { Digest } from '../digest.ts'
import type { Descriptor } from '../manifest.ts'
import { manifestAccept } from '../media-types.ts'
import { protocolError, quoteRemote } from './errors.ts'
import type { Session } from './session.ts'
import { discard, type HttpResponse, type Transport } from './transport.ts'

/** Smallest part that a blob is cut into when a server refuses larger ones (413). */
const chunkMin = 64 << 10
const cleanUpTimeoutMs = 5000

export interface UploadSource {
  readonly descriptor: Descriptor
  /** The blob's bytes from `start` to `end`, exclusive. */
  read(start: number, end: number): Readable
  onBytes(sent: number): void
}

/** An upload under way. */
export interface UploadPlace {
  /** Where the next request goes: every answer may name another. */
  url: URL
  /** Bytes that the registry has. */
  offset: number
  /** Smallest part that it takes; the last may be smaller. */
  chunkMin: number
}

/** Uploads to one repository: distribution-spec, push category. */
export class Uploader {
  readonly #session: Session
  readonly #transport: Transport
  readonly #label: string
  readonly #chunkBytes: number

  /** @param options.chunkBytes blobs that are larger are sent in parts of this size; 0: in one piece, and in parts only after a failure */
  constructor(session: Session, transport: Transport, options: { label: string; chunkBytes: number }) {
    this.#session = session
    this.#transport = transport
    this.#label = options.label
    this.#chunkBytes = options.chunkBytes
  }

  async hasBlob(descriptor: Descriptor, signal: AbortSignal): Promise<boolean> {
    const { response } = await this.#session.send({ method: 'HEAD', path: `blobs/${descriptor.digest}`, signal })
    await discard(response)
    if (response.statusCode === 200) return true
    if (response.statusCode === 404) return false
    throw await this.#session.failure(response, this.#blob(descriptor))
  }

  async hasManifest(digest: Digest, signal: AbortSignal): Promise<boolean> {
    const headers = { accept: `${manifestAccept}, */*` }
    const { response } = await this.#session.send({ method: 'HEAD', path: `manifests/${digest}`, headers, signal })
    await discard(response)
    if (response.statusCode === 200) return true
    if (response.statusCode === 404) return false
    throw await this.#session.failure(response, `manifest ${digest} of image "${this.#label}"`)
  }

  /**
   * Takes a blob over from another repository of the registry.
   *
   * @returns where it is not mounted: the upload that the registry has begun instead, if it has
   */
  async mount(descriptor: Descriptor, from: string, signal: AbortSignal): Promise<'mounted' | UploadPlace | null> {
    const path = `blobs/uploads/?mount=${encodeURIComponent(descriptor.digest)}&from=${encodeURIComponent(from)}`
    const { response, url } = await this.#session.send({ method: 'POST', path, headers: empty, signal })
    await discard(response)
    if (response.statusCode === 201) return 'mounted'
    return response.statusCode === 202 ? this.#placeIn(response, url) : null
  }

  /**
   * Sends a blob. A connection that breaks is followed by the question how much has arrived, and the rest.
   *
   * @param begun an upload that the registry has begun already
   * @throws CaissonError ERR_REGISTRY_*; what the registry has taken so far is given up
   */
  async upload(source: UploadSource, signal: AbortSignal, begun: UploadPlace | null = null): Promise<void> {
    const { descriptor } = source
    const what = this.#blob(descriptor)
    let chunk = this.#chunkBytes
    let place = begun
    let broken = false
    let failures = 0
    // of all tries: what a registry forgets, and takes again, is no progress
    let furthest = begun?.offset ?? 0
    try {
      for (;;) {
        try {
          if (place !== null && broken) place = await this.#whereabouts(place, descriptor, signal)
          broken = false
          place ??= await this.#begin(descriptor, signal)
          if (place.offset === 0 && (chunk === 0 || descriptor.size <= chunk)) await this.#whole(source, place, signal)
          else await this.#parts(source, place, Math.max(chunk || descriptor.size, place.chunkMin), signal)
          return
        } catch (error) {
          if (signal.aborted || !isAnotherTry(error)) throw error
          const tooLarge = error instanceof UploadStatus && error.status === 413
          if (tooLarge) chunk = smaller(chunk || descriptor.size)
          const reached: number = place?.offset ?? 0
          failures = reached > furthest ? 1 : failures + 1
          furthest = Math.max(furthest, reached)
          if (tooLarge ? chunk < chunkMin : failures >= this.#transport.attempts) throw errorOf(error)
          await this.#transport.pause(failures, { signal, what })
          broken = true
          // from here on in parts, so that the next break costs less
          if (chunk === 0) chunk = Math.max(chunkMin, Math.ceil(descriptor.size / 8))
        }
      }
    } catch (error) {
      if (place !== null) await this.cancel(place)
      throw error
    }
  }

  /**
   * Puts a manifest in place: its bytes as they are.
   *
   * @param target tag or digest
   * @returns the digest of the subject that the registry has taken note of, or null (distribution-spec, "Pushing Manifests with Subject")
   */
  async putManifest(
    target: string,
    manifest: { mediaType: string; body: Buffer; digest: Digest },
    signal: AbortSignal,
  ): Promise<string | null> {
    const { response } = await this.#session.send({
      method: 'PUT',
      path: `manifests/${target}`,
      headers: { 'content-type': manifest.mediaType, 'content-length': String(manifest.body.length) },
      body: manifest.body,
      signal,
    })
    if (response.statusCode < 200 || response.statusCode > 204) {
      throw await this.#session.failure(response, `manifest ${target} of image "${this.#label}"`)
    }
    await discard(response)
    this.#checkDigest(response, manifest.digest, `manifest ${target} of image "${this.#label}"`)
    const subject = response.headers['oci-subject']
    return typeof subject === 'string' ? subject : null
  }

  async #begin(descriptor: Descriptor, signal: AbortSignal): Promise<UploadPlace> {
    const { response, url } = await this.#session.send({
      method: 'POST',
      path: 'blobs/uploads/',
      headers: empty,
      signal,
    })
    if (response.statusCode !== 202) throw await this.#session.failure(response, this.#blob(descriptor))
    await discard(response)
    return this.#placeIn(response, url)
  }

  #placeIn(response: HttpResponse, url: URL): UploadPlace {
    const least = Number(response.headers['oci-chunk-min-length'] ?? 0)
    return {
      url: this.#session.placeOf(response, url),
      offset: 0,
      chunkMin: Number.isSafeInteger(least) && least > 0 ? least : 0,
    }
  }

  async #whole(source: UploadSource, place: UploadPlace, signal: AbortSignal): Promise<void> {
    await this.#finish(
      source,
      place,
      { body: () => source.read(0, source.descriptor.size), length: source.descriptor.size },
      signal,
    )
    source.onBytes(source.descriptor.size)
  }

  async #parts(source: UploadSource, place: UploadPlace, chunk: number, signal: AbortSignal): Promise<void> {
    const { size } = source.descriptor
    while (place.offset < size) {
      const begin = place.offset
      const end = Math.min(begin + chunk, size)
      const { response, url } = await this.#session.send({
        method: 'PATCH',
        path: place.url,
        headers: {
          'content-type': 'application/octet-stream',
          'content-length': String(end - begin),
          'content-range': `${begin}-${end - 1}`,
        },
        body: () => source.read(begin, end),
        signal,
        attempts: 1,
      })
      if (response.statusCode !== 202 && response.statusCode !== 204) await this.#refused(response, source.descriptor)
      await discard(response)
      if (response.headers['location'] !== undefined) place.url = this.#session.placeOf(response, url)
      place.offset = end
      source.onBytes(end)
    }
    await this.#finish(source, place, null, signal)
  }

  /** Ends an upload, with the last bytes or without: the registry compares the digest. */
  async #finish(
    source: UploadSource,
    place: UploadPlace,
    content: { body: () => Readable; length: number } | null,
    signal: AbortSignal,
  ): Promise<void> {
    const { descriptor } = source
    const url = new URL(place.url)
    url.searchParams.set('digest', descriptor.digest)
    const { response } = await this.#session.send({
      method: 'PUT',
      path: url,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(content?.length ?? 0) },
      ...(content !== null && { body: content.body }),
      signal,
      attempts: 1,
    })
    if (response.statusCode < 200 || response.statusCode > 204) await this.#refused(response, descriptor)
    await discard(response)
    this.#checkDigest(response, descriptor.digest, this.#blob(descriptor))
  }

  /**
   * How much of an upload has arrived (distribution-spec, "Pushing a blob in chunks"); null when it has to begin anew. `0-0` may
   * stand for one byte or none: not worth to find out.
   */
  async #whereabouts(place: UploadPlace, descriptor: Descriptor, signal: AbortSignal): Promise<UploadPlace | null> {
    const { response, url } = await this.#session.send({ method: 'GET', path: place.url, signal })
    await discard(response)
    const known = response.statusCode === 204 || response.statusCode === 202 || response.statusCode === 200
    const end = /^(?:bytes=)?0-(\d+)$/.exec(String(response.headers['range'] ?? ''))?.[1]
    const offset = Number(end ?? 0) + 1
    if (!known || end === undefined || end === '0' || offset > descriptor.size) {
      if (known) await this.cancel(place)
      return null
    }
    const next = response.headers['location'] === undefined ? place.url : this.#session.placeOf(response, url)
    return { url: next, offset, chunkMin: place.chunkMin }
  }

  /** Best effort: a registry forgets abandoned uploads by itself, later. */
  async cancel({ url }: UploadPlace): Promise<void> {
    try {
      const signal = AbortSignal.timeout(cleanUpTimeoutMs)
      await discard((await this.#session.send({ method: 'DELETE', path: url, signal, attempts: 1 })).response)
    } catch (error) {
      if (!isCaissonError(error)) throw error
    }
  }

  async #refused(response: HttpResponse, descriptor: Descriptor): Promise<never> {
    const failure = await this.#session.failure(response, this.#blob(descriptor))
    throw new UploadStatus(response.statusCode, failure)
  }

  #checkDigest(response: HttpResponse, expected: Digest, what: string): void {
    const said = response.headers['docker-content-digest']
    if (typeof said !== 'string' || said === expected) return
    throw protocolError(this.#session.host, `it took ${what} for ${quoteRemote(said)}, which is not ${expected}`)
  }

  #blob(descriptor: Descriptor): string {
    return `blob ${descriptor.digest} of image "${this.#label}"`
  }
}

const empty = { 'content-length': '0' }

/** An answer within an upload that is not the one hoped for. */
class UploadStatus extends Error {
  readonly status: number
  readonly failure: CaissonError

  constructor(status: number, failure: CaissonError) {
    super(failure.message)
    this.status = status
    this.failure = failure
  }
}

function errorOf(error: unknown): unknown {
  return error instanceof UploadStatus ? error.failure : error
}

/**
 * Broken, overloaded, out of step with us (416), forgotten (404), too large for something on the way (413), or cut off by it, which
 * docker-registry takes for our going away (499).
 */
function isAnotherTry(error: unknown): boolean {
  if (error instanceof UploadStatus) return [404, 408, 413, 416, 429, 499].includes(error.status) || error.status >= 500
  return isCaissonError(error) && error.code === 'ERR_REGISTRY_UNAVAILABLE'
}

function smaller(chunk: number): number {
  return Math.ceil(chunk / 4)
}
