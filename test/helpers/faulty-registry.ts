import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

export interface FaultyRegistry {
  readonly host: string
  /** `METHOD /path` of every request, in order, with its Authorization header. */
  readonly requests: { line: string; authorization: string | undefined }[]
  /** Answers before the registry does, and says so by returning true. */
  fault: (request: IncomingMessage, response: ServerResponse) => boolean
  stop(): Promise<void>
}

/** A registry over an OCI layout directory, for the behaviours that no good registry shows: the test's `fault` comes first. */
export async function startFaultyRegistry(layout: string): Promise<FaultyRegistry> {
  const mediaTypeOf = (body: Buffer): string => (JSON.parse(body.toString()) as { mediaType: string }).mediaType

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const match = /^\/v2\/.+?\/(manifests|blobs)\/([^/?]+)/.exec(request.url ?? '')
    if (match === null) return void response.writeHead(200).end('{}')
    const [, kind, name = ''] = match
    let digest = name
    if (!name.startsWith('sha256:')) {
      const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as {
        manifests: { digest: string; annotations: Record<string, string> }[]
      }
      digest =
        index.manifests.find(({ annotations }) => annotations['org.opencontainers.image.ref.name'] === name)?.digest ??
        ''
    }
    let body: Buffer
    try {
      body = await readFile(join(layout, 'blobs', 'sha256', digest.slice(7)))
    } catch {
      const error = { errors: [{ code: 'MANIFEST_UNKNOWN', message: `${name} is unknown` }] }
      return void response.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify(error))
    }
    response.setHeader('docker-content-digest', digest)
    response.setHeader('content-length', body.length)
    response.setHeader('content-type', kind === 'manifests' ? mediaTypeOf(body) : 'application/octet-stream')
    response.end(request.method === 'HEAD' ? undefined : body)
  }

  const registry: FaultyRegistry = {
    host: '',
    requests: [],
    fault: () => false,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  const server = createServer((request, response) => {
    registry.requests.push({
      line: `${request.method} ${request.url}`,
      authorization: request.headers.authorization,
    })
    if (registry.fault(request, response)) return
    answer(request, response).catch((error: unknown) => response.destroy(error as Error))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return Object.assign(registry, { host: `127.0.0.1:${(server.address() as AddressInfo).port}` })
}
