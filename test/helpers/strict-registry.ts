import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { digestOf } from './image.ts'

interface Answer {
  status: number
  headers?: Record<string, string>
  body?: Buffer
}

type Fault = (
  request: IncomingMessage,
  response: ServerResponse,
  body: Buffer,
  upload: { data: Buffer } | undefined,
) => boolean

/** A registry of one repository, `app`, that takes uploads by the letter of the specification, for what real ones do seldom. */
export class StrictRegistry {
  host = ''
  readonly uploads = new Map<string, { data: Buffer }>()
  readonly blobs = new Map<string, Buffer>()
  /** By tag and by digest. */
  readonly manifests = new Map<string, { body: Buffer; type: string }>()
  /** `METHOD /path` of every request. */
  readonly log: string[] = []
  /** Answers before the registry does, and says so by returning true; the body has been read. */
  fault: Fault = () => false
  /** Whether it notes the subjects of manifests. */
  subjects = false
  #count = 0

  async start(t: Test): Promise<this> {
    const server = createServer((request, response) => {
      void this.#serve(request, response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
    return this
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    } catch {
      return // the client has gone
    }
    const body = Buffer.concat(chunks)
    const url = new URL(request.url ?? '', 'http://x')
    this.log.push(`${request.method} ${url.pathname}`)
    const id = /\/uploads\/u(\d+)-\d+$/.exec(url.pathname)?.[1] ?? ''
    if (this.fault(request, response, body, this.uploads.get(id))) return
    const { status, headers, body: content } = this.#answer(request, url, id, body)
    response.writeHead(status, headers ?? {}).end(request.method === 'HEAD' ? undefined : content)
  }

  #answer(request: IncomingMessage, url: URL, id: string, body: Buffer): Answer {
    if (url.pathname === '/v2/') return { status: 200 }
    if (url.pathname === '/v2/app/blobs/uploads/') {
      const fresh = String(this.#count++)
      this.uploads.set(fresh, { data: Buffer.alloc(0) })
      return { status: 202, headers: { location: `/v2/app/blobs/uploads/u${fresh}-0`, range: '0-0' } }
    }
    if (id !== '') return this.#upload(request, url, id, body)
    const [, kind, name = ''] = /^\/v2\/app\/(blobs|manifests)\/([^/]+)$/.exec(url.pathname) ?? []
    if (kind === 'blobs') return { status: this.blobs.has(name) ? 200 : 404 }
    if (kind === 'manifests') return request.method === 'PUT' ? this.#put(request, name, body) : this.#manifest(name)
    return { status: 404 }
  }

  #upload(request: IncomingMessage, url: URL, id: string, body: Buffer): Answer {
    const upload = this.uploads.get(id)
    if (upload === undefined) return { status: 404 }
    if (request.method === 'DELETE') return { status: this.uploads.delete(id) ? 204 : 404 }
    // every answer names another place for the next request
    const headers = (): Record<string, string> => ({
      location: `/v2/app/blobs/uploads/u${id}-${this.#count++}?state=${this.#count}`,
      range: `0-${Math.max(0, upload.data.length - 1)}`,
    })
    if (request.method === 'GET') return { status: 204, headers: headers() }
    const range = request.headers['content-range']
    const wanted = `${upload.data.length}-${upload.data.length + body.length - 1}`
    if (range !== undefined && range !== wanted) return { status: 416, headers: headers() }
    upload.data = Buffer.concat([upload.data, body])
    if (request.method === 'PATCH') return { status: 202, headers: headers() }
    const digest = url.searchParams.get('digest') ?? ''
    if (digestOf(upload.data) !== digest) return { status: 400 }
    this.blobs.set(digest, upload.data)
    this.uploads.delete(id)
    return { status: 201, headers: { 'docker-content-digest': digest } }
  }

  #put(request: IncomingMessage, name: string, body: Buffer): Answer {
    const digest = digestOf(body)
    const stored = { body, type: request.headers['content-type'] ?? '' }
    this.manifests.set(name, stored).set(digest, stored)
    const { subject } = JSON.parse(body.toString()) as { subject?: { digest: string } }
    const noted = this.subjects && subject !== undefined ? { 'oci-subject': subject.digest } : {}
    return { status: 201, headers: { 'docker-content-digest': digest, ...noted } }
  }

  #manifest(name: string): Answer {
    const stored = this.manifests.get(name)
    if (stored === undefined) return { status: 404 }
    const headers = { 'content-type': stored.type, 'docker-content-digest': digestOf(stored.body) }
    return { status: 200, headers, body: stored.body }
  }
}
